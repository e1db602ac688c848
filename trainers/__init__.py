"""Folder that nnU-Net scans for trainers; installed as `nnsam.trainers`."""
