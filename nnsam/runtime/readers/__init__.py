"""Image files as nnU-Net's readers and writers treat them, one module per file library."""
