"""The constructor's options and a call's arguments: SAM's sizes by name, and what is refused, in one sentence each.

Shapes are always checked. Values (finite image, points inside) are checked outside training only: the check waits for
the device, and in training the sampler draws its points from the patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from nnunetv2_promise.errors import UserError

FEATURES = 4
"""The encoder hands on this many features, from equally spaced depths."""


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a vision transformer of SAM's form.

    Attributes:
        embed_dim: Width E of a token.
        depth: Number of blocks, at least four.
        num_heads: Attention heads; divides ``embed_dim``.
        mlp_ratio: Hidden width of a block's MLP in units of ``embed_dim``.
        window_size: Edge of an attention window in tokens, one number or three in (z, y, x) order. It shrinks where the
            token grid is smaller.
        global_attn_indexes: Blocks whose tables of relative positions SAM holds for the whole image. They attend in
            windows here as well; only the length of their tables differs.
        pos_embed_size: Edge of SAM's position table in tokens; None makes a table that fits the token grid.
        table_window: Window that the tables of relative positions were trained for (14 in SAM); None: ``window_size``.
    """

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    window_size: int | tuple[int, int, int] = 8
    global_attn_indexes: tuple[int, ...] = ()
    pos_embed_size: int | None = None
    table_window: int | None = None

    def __post_init__(self) -> None:
        """Check that the sizes fit each other."""
        if self.depth < FEATURES:
            raise UserError(f"encoder depth is {self.depth}; it needs at least {FEATURES} blocks.")
        if self.num_heads < 1 or self.embed_dim % self.num_heads:
            raise UserError(f"encoder embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}.")
        if len(self.window_zyx) != 3 or min(self.window_zyx) < 1:
            raise UserError(f"encoder window_size is {self.window_size}; it must be one or three positive numbers.")

    @property
    def window_zyx(self) -> tuple[int, int, int]:
        """Window edges in tokens along the array axes z, y, x."""
        if isinstance(self.window_size, int):
            return (self.window_size,) * 3
        return self.window_size

    @property
    def feature_indexes(self) -> tuple[int, ...]:
        """The blocks after which a feature is taken (3, 6, 9, 12 of ViT-B, counted from zero here)."""
        return tuple((i + 1) * self.depth // FEATURES - 1 for i in range(FEATURES))


SAM_ENCODERS = {
    "vit_b": EncoderConfig(768, 12, 12, global_attn_indexes=(2, 5, 8, 11), pos_embed_size=64, table_window=14),
    "vit_l": EncoderConfig(1024, 24, 16, global_attn_indexes=(5, 11, 17, 23), pos_embed_size=64, table_window=14),
    "vit_h": EncoderConfig(1280, 32, 16, global_attn_indexes=(7, 15, 23, 31), pos_embed_size=64, table_window=14),
}


def encoder_config(encoder: str | Mapping[str, Any]) -> EncoderConfig:
    """Turn the plans' ``encoder`` entry into sizes.

    Args:
        encoder: ``"vit_b"``, ``"vit_l"``, ``"vit_h"``, or the fields of :class:`EncoderConfig` as a mapping.

    Raises:
        UserError: If the name or a field is unknown, a field is missing, or sizes do not fit each other.
    """
    if isinstance(encoder, str):
        if encoder not in SAM_ENCODERS:
            raise UserError(f"encoder '{encoder}' is unknown; use one of {', '.join(SAM_ENCODERS)} or a dict of sizes.")
        return SAM_ENCODERS[encoder]
    known = {field.name for field in fields(EncoderConfig)}
    missing = {"embed_dim", "depth", "num_heads"} - set(encoder)
    unknown = set(encoder) - known
    if missing or unknown:
        raise UserError(
            f"encoder needs the fields embed_dim, depth, num_heads and may have {sorted(known)}; "
            f"missing {sorted(missing)}, unknown {sorted(unknown)}."
        )
    return EncoderConfig(**{name: _tuples(value) for name, value in encoder.items()})


def encoder_name(sizes: Mapping[str, Any]) -> str | dict[str, Any]:
    """The name of SAM's encoder with these sizes, or the sizes where it is none of SAM's."""
    config = encoder_config(sizes)
    return next((name for name, known in SAM_ENCODERS.items() if known == config), dict(sizes))


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


SMALLEST_PATCH = 16


def check_options(
    patch_size: Sequence[int],
    in_channels: int,
    adapters: int,
    upsampling: str,
    cnn_encoder: str | None,
    neck_channels: int,
    decoder_channels: int,
    labels: int,
) -> None:
    """Refuse constructor options that have no meaning.

    Raises:
        UserError: Naming the option, its value and what it may be.
    """
    if len(patch_size) != 3 or min(patch_size) < SMALLEST_PATCH:
        raise UserError(f"patch_size is {tuple(patch_size)}; it needs three sizes of at least {SMALLEST_PATCH} voxels.")
    if in_channels < 1:
        raise UserError(f"in_channels is {in_channels}; an image has at least one channel.")
    if neck_channels < 16 or neck_channels % 16:
        raise UserError(f"neck_channels is {neck_channels}; use a multiple of 16.")
    if decoder_channels < 1:
        raise UserError(f"decoder_channels is {decoder_channels}; use at least 1.")
    if labels < 1:
        raise UserError(f"labels is {labels}; a network segments at least one.")
    choices: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "adapters": (adapters, (1, 2)),
        "upsampling": (upsampling, ("transposed", "trilinear")),
        "cnn_encoder": (cnn_encoder, ("concatenate", "residual", None)),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"{name} is {value!r}; use one of {', '.join(map(repr, allowed))}.")


def check_image(image: Tensor, channels: int, size: Sequence[int], *, check_values: bool) -> None:
    """Refuse an image that is not (B, channels, D, H, W) or, with ``check_values``, not finite.

    Raises:
        UserError: Saying what was given and what is needed.
    """
    if image.ndim != 5 or tuple(image.shape[1:]) != (channels, *size):
        raise UserError(
            f"image has shape {tuple(image.shape)}; the network needs (batch, {channels}, "
            f"{', '.join(map(str, size))}), crop or pad the image to its patch size."
        )
    if check_values and not torch.compiler.is_compiling() and not bool(torch.isfinite(image).all()):
        raise UserError("image holds NaN or infinite values; clean it before segmenting.")


def check_points(point_coords: Tensor, batch: int, size: Sequence[int], *, check_values: bool) -> None:
    """Refuse points that are not (batch, N >= 1, 3) or, with ``check_values``, outside the patch.

    A voxel reaches half an index to either side of its centre, so a point lies within [-0.5, size - 0.5].

    Raises:
        UserError: Saying what was given and what is needed.
    """
    if (
        point_coords.ndim != 3
        or point_coords.shape[0] != batch
        or point_coords.shape[1] < 1
        or point_coords.shape[2] != 3
    ):
        raise UserError(
            f"points have shape {tuple(point_coords.shape)}; the network needs ({batch}, at least 1, 3), "
            "voxel indices in array axis order."
        )
    if not check_values or torch.compiler.is_compiling():
        return
    upper = torch.as_tensor(size, device=point_coords.device) - 0.5
    inside = ((point_coords >= -0.5) & (point_coords <= upper)).all(-1)
    if not bool(inside.all()):
        outside = point_coords[~inside][0].tolist()
        raise UserError(f"point {outside} lies outside the patch of {tuple(size)} voxels; move the click or the patch.")


def check_corrections(
    point_coords: Tensor,
    point_labels: Tensor | None,
    previous_logits: Tensor | None,
    size: Sequence[int],
    *,
    corrects: bool,
) -> None:
    """Refuse signs and previous masks of the wrong shape, or for a network that knows nothing of them.

    Raises:
        UserError: Saying what was given and what is needed.
    """
    if not corrects and (point_labels is not None or previous_logits is not None):
        what = "previous_logits" if point_labels is None else "point_labels"
        raise UserError(f"{what} was given to a network that cannot correct; build it with corrects=True.")
    batch, points = point_coords.shape[:2]
    if point_labels is not None and tuple(point_labels.shape) != (batch, points):
        raise UserError(
            f"point_labels has shape {tuple(point_labels.shape)}; the network needs ({batch}, {points}), one for each "
            "point."
        )
    if previous_logits is not None and tuple(previous_logits.shape) != (batch, 1, *size):
        raise UserError(
            f"previous_logits has shape {tuple(previous_logits.shape)}; the network needs "
            f"({', '.join(map(str, (batch, 1, *size)))})."
        )
