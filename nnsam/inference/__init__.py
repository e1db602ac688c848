"""Prediction with box prompts."""
