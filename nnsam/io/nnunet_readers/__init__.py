"""Readers and writers that do bit by bit what nnU-Net's own classes do, for `nnsam predict`."""
