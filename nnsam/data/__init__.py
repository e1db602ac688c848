"""Data sets: a synthetic phantom, converters to raw nnU-Net data sets, overlays."""
