"""`nnsam bench cpu`: PyTorch beside OpenVINO."""
