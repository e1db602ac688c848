"""A study before its first run: who is in which part, and nnU-Net's plans of each training subset."""
