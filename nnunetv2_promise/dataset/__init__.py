"""MSD folders in, nnU-Net raw datasets out."""
