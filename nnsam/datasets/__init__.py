"""Data sets in other layouts as raw nnU-Net data sets, and a synthetic one."""
