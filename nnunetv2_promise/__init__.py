"""Promptable 3D tumour segmentation (ProMISe) as an extension of nnU-Net v2."""

__version__ = "0.1.0"
