"""Which vision transformer the image encoder is: SAM's three by name, or any other by its sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

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
