"""Models that segment an image by themselves, as nnU-Net does it, on numpy and any backend."""
