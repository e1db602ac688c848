"""nnU-Net from outside: its commands, model folders, checkpoints, raw data sets and names of trainers."""
