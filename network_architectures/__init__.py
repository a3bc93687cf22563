"""Networks: plain ``torch.nn`` modules that know nothing of nnU-Net."""
