"""The folder that a user exports as ``nnUNet_extTrainer``; it only re-exports trainers."""
