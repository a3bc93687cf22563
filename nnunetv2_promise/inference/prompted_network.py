"""The network as nnU-Net's trainer and predictor call it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunetv2_promise.inference.correctable_mask import correct_window
from nnunetv2_promise.inference.correction_code import decode_corrections
from nnunetv2_promise.inference.growth import segment_window
from nnunetv2_promise.inference.mirroring import mean_over_mirrors
from nnunetv2_promise.inference.tile_code import VOTE_CHANNELS, decode_channel, encode_vote
from nnunetv2_promise.network_architectures.promise.correcting import refine_first


def encoder_autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where a GPU has it, full precision elsewhere.

    float16 is never used: the double residual of the adapters can grow the token stream beyond its range.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bfloat16(device.type))


@torch.compiler.assume_constant_result
def has_bfloat16(device_type: str) -> bool:
    """Whether the hardware computes in bfloat16; the compiler asks once and does not trace the question.

    PyTorch emulates it on GPUs before Ampere (T4, V100), which is slower than float32.
    """
    return device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


class PromptedNetwork(nn.Module):
    """A promptable patch network behind nnU-Net's calling conventions.

    Training calls it with patches and points. nnU-Net's sliding window calls it with one window, whose last channel
    holds the prompt (``tile_code``).

    Args:
        network: Takes (B, C, D, H, W) and (B, N, 3), gives (B, 2, D, H, W) logits. One whose ``labels`` is above 1 also
            takes ``label_index``, (B,) long, the label that is clicked.
        patch_size: (D, H, W) that ``network`` takes.
        heads: Background and every foreground label.
        image_channels: Channels of the image; those of the prompts come after them.
        one_component: Whether the first answer to clicks that correct is the component that was clicked.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        patch_size: Sequence[int],
        heads: int,
        image_channels: int = 1,
        one_component: bool = False,
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.patch_size = tuple(patch_size)
        self.heads = heads
        self.image_channels = image_channels
        self.one_component = one_component

    def forward(
        self,
        image: Tensor,
        point_coords: Tensor | None = None,
        *,
        rounds: Callable[[nn.Module, Any], Any] | None = None,
        **prompt: Tensor | None,
    ) -> Any:
        """Segment patches, or answer for a tile of nnU-Net's sliding window.

        Args:
            image: (B, C, D, H, W) patches; without points (1, C + K, D, H, W), a tile with its K prompt channels.
            point_coords: (B, N, 3) voxels in array axis order, or None.
            rounds: What to do with the network and the encoded patches, instead of decoding them once. Training with
                corrections decodes them several times, all of it within this one forward pass as DDP wants it.
            **prompt: What else the network's ``decode`` takes, such as ``label_index``.

        Returns:
            The network's logits, (B, 2, D, H, W) with one label for each patch; for a tile (1, 2, D, H, W) votes;
            what ``rounds`` returns.
        """
        if rounds is not None:
            with encoder_autocast(image.device):
                return rounds(self.network, self.network.encode(image))
        if point_coords is None:
            return self._answer_tile(image[0])[None]
        with encoder_autocast(image.device):
            return self.network(image, point_coords, **prompt)

    def encode(self, image: Tensor) -> Any:
        """What ``network.encode`` gives for (B, C, D, H, W) patches."""
        with encoder_autocast(image.device):
            return self.network.encode(image)

    def decode(self, encoded: Any, point_coords: Tensor, **prompt: Any) -> Tensor:
        """(B, 2, D, H, W) logits of encoded patches, as ``forward`` gives them for patches."""
        with encoder_autocast(point_coords.device):
            return self.network.decode(encoded, point_coords, **prompt)

    def decode_and_rate(self, encoded: Any, point_coords: Tensor, **prompt: Any) -> tuple[Tensor, Tensor]:
        """As ``decode``, and the Dice (B,) that a network that corrects expects of its masks."""
        with encoder_autocast(point_coords.device):
            return self.network.decode_and_rate(encoded, point_coords, **prompt)

    def decode_first(self, encoded: Any, point_coords: Tensor, **prompt: Any) -> tuple[Tensor, Tensor]:
        """The answer of a network that corrects to a first click: as ``decode_and_rate``, and refined."""
        with encoder_autocast(point_coords.device):
            logits, _ = self.network.decode_and_rate(encoded, point_coords, **prompt)
            return refine_first(self.network, encoded, point_coords, logits, **prompt)

    @property
    def corrects(self) -> bool:
        """Whether the network takes one click after the other, negative ones as well."""
        return getattr(self.network, "corrections", None) is not None

    def segment_window(
        self, image: Tensor, points: Tensor, label_head: int, *, mirror_axes: Sequence[int] = ()
    ) -> Tensor:
        """Foreground logit of one object.

        Args:
            image: (C, D, H, W) window.
            points: (n, 3) long, clicks in the window.
            label_head: Number of the clicked label, background counts.
            mirror_axes: Array axes along which the window is mirrored, too; the answer is the mean.

        Returns:
            (D, H, W) float32, NaN where no patch looked.
        """
        prompt = self.label_prompt(label_head, image.device)

        def answer(patch: Tensor, clicks: Tensor) -> Tensor:
            if not self.corrects:
                return self(patch, clicks, **prompt)
            signs = torch.ones_like(clicks[..., 0])
            return self.decode_first(self.encode(patch), clicks, point_labels=signs, **prompt)[0]

        def segment(window: Tensor, clicks: Tensor) -> Tensor:
            return segment_window(answer, window, clicks, self.patch_size)

        return mean_over_mirrors(segment, image, points, mirror_axes)

    def label_prompt(self, label_head: int, device: torch.device) -> dict[str, Tensor]:
        """The argument that tells a network of several labels which one is clicked; nothing for other networks."""
        if getattr(self.network, "labels", 1) == 1:
            return {}
        return {"label_index": torch.tensor([label_head - 1], device=device)}

    @torch.compiler.disable
    def _answer_tile(self, tile: Tensor) -> Tensor:
        image, code = tile[: self.image_channels], tile[self.image_channels]
        prompt = decode_channel(code, self.heads)
        if prompt is None:
            return tile.new_zeros((VOTE_CHANNELS, *tile.shape[1:]))
        label_head, points = prompt
        corrections = decode_corrections(tile[self.image_channels + 1 :])
        if corrections is None:
            return encode_vote(self.segment_window(image, points, label_head))
        corrected = correct_window(
            self,
            image.cpu().numpy(),
            corrections.interactions,
            label_head=label_head,
            window_size=tile.shape[1:],
            previous_mask=corrections.previous_mask,
            one_component=self.one_component,
        )
        return encode_vote(torch.from_numpy(corrected.logits).to(tile.device))
