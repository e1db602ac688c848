"""Training with nnU-Net: trainers, transforms, checks. The only package that imports nnunetv2.training."""
