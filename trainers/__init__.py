"""Trainers that ``nnUNetv2_train -tr`` finds."""
