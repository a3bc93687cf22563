"""Networks: plain ``torch.nn`` modules that know nothing of nnU-Net."""

from nnunetv2_promise.network_architectures.interactive.clickable_promise import ClickableProMISe
from nnunetv2_promise.network_architectures.interactive.unet import InteractiveUNet
from nnunetv2_promise.network_architectures.promise.network import EncodedPatch, ProMISe
from nnunetv2_promise.network_architectures.weights.published import load_published_checkpoint
from nnunetv2_promise.network_architectures.weights.sam import load_sam_encoder, sam_encoder_options

__all__ = [
    "ClickableProMISe",
    "EncodedPatch",
    "InteractiveUNet",
    "ProMISe",
    "load_published_checkpoint",
    "load_sam_encoder",
    "sam_encoder_options",
]
