"""Promptable 3D tumour segmentation (ProMISe) as an extension of nnU-Net v2."""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout, two of the package's folders stand beside this one; an installed package holds them.
_beside = Path(__file__).resolve().parent.parent
if not Path(__file__).with_name("trainers").is_dir() and (_beside / "trainers" / "promise.py").is_file():
    __path__.append(str(_beside))
