"""Networks: plain ``torch.nn`` modules that know nothing of nnU-Net."""

from nnunetv2_promise.network_architectures.promise import EncodedPatch, ProMISe

__all__ = ["EncodedPatch", "ProMISe"]
