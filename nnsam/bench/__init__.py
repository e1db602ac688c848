"""Benchmarks behind `nnsam bench`."""
