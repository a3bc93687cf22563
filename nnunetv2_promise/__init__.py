"""Promptable 3D tumour segmentation (ProMISe) as an extension of nnU-Net v2."""

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# In a checkout, two of the package's folders stand beside this one; an installed package holds them.
_beside = Path(__file__).resolve().parent.parent
if not Path(__file__).with_name("trainers").is_dir() and (_beside / "trainers" / "promise.py").is_file():
    __path__.append(str(_beside))

# Imported when they are first used: they bring PyTorch and nnU-Net with them.
_PUBLIC = {
    "InteractiveSession": "nnunetv2_promise.inference.session",
    "load_model": "nnunetv2_promise.inference.segment",
    "segment": "nnunetv2_promise.inference.segment",
}


def __getattr__(name: str) -> Any:
    """The package's classes and functions for Python users."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
