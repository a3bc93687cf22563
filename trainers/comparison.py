"""The networks that the paper compares ProMISe with (Table 1), trained by nnU-Net's own loop.

They are not promptable. Plans, patch and batch size, augmentation, length of training and prediction are nnU-Net's;
network, loss and optimiser are those of their papers (see ``docs/reference/comparison-trainers.md``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from monai.optimizers import WarmupCosineSchedule
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from nnunetv2_promise.network_architectures.compared.nnformer import NNFormer
from nnunetv2_promise.network_architectures.compared.swin_unetr import PaddedSwinUNETR, load_self_supervised
from nnunetv2_promise.network_architectures.compared.ux_net import UXNet3D
from nnunetv2_promise.trainers.restartable import RestartableTraining

SWIN_WEIGHTS_VARIABLE = "nnUNet_promise_swin_unetr"
"""Environment variable with the path of self-supervised weights; random start if it is not set."""


class ComparisonTraining(RestartableTraining):
    """What the comparison trainers share: they are seeded, restartable, and refuse 2D.

    Class attributes are the knobs that variants turn.
    """

    epochs: ClassVar[int] = 1000
    iterations_per_epoch: ClassVar[int] = 250
    val_iterations_per_epoch: ClassVar[int] = 50
    learning_rate: ClassVar[float] = 1e-2
    decay: ClassVar[float] = 3e-5
    deep_supervision: ClassVar[bool] = False
    network_class: ClassVar[type[nn.Module]]
    network_options: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        patch_size = PlansManager(plans).get_configuration(configuration).patch_size
        if len(patch_size) != 3:
            raise NotImplementedError(
                f"{type(self).__name__} segments in 3D; configuration '{configuration}' has patches with "
                f"{len(patch_size)} axes. Train 3d_fullres."
            )
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.epochs
        self.num_iterations_per_epoch = self.iterations_per_epoch
        self.num_val_iterations_per_epoch = self.val_iterations_per_epoch
        self.initial_lr = self.learning_rate
        self.weight_decay = self.decay
        self.enable_deep_supervision = self.deep_supervision

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """Build the network for the data's channels and classes; nnU-Net calls this in training and at prediction."""
        return cls.network_class(
            in_channels=num_input_channels, out_channels=num_output_channels, **cls.network_options
        )

    @property
    def bare_network(self) -> Any:
        """The network without DDP's and the compiler's wrappers."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        return getattr(network, "_orig_mod", network)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """The network has one output; there is nothing to switch."""

    def plot_network_architecture(self) -> None:
        """nnU-Net's plot fails for these networks and logs a page of errors."""


class UXNet3DTrainer(ComparisonTraining):
    """3D UX-Net (Lee et al., ICLR 2023): AdamW with a constant learning rate, Dice and cross entropy."""

    network_class = UXNet3D
    learning_rate = 1e-4
    decay = 1e-2

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """AdamW, learning rate 1e-4 throughout, PyTorch's weight decay (the paper names none)."""
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs, exponent=0.0)


class EpochwiseWarmupCosine(WarmupCosineSchedule):
    """MONAI's schedule, told the epoch as nnU-Net tells it, so that a resumed training is in the right place."""

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rate of an epoch, or of the next one."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


class SwinUNETRTrainer(ComparisonTraining):
    """SwinUNETR (Hatamizadeh et al., 2021; Tang et al., CVPR 2022): AdamW, warm-up and cosine, Dice and cross entropy.

    The environment variable ``nnUNet_promise_swin_unetr`` may name a file of self-supervised weights to start from.
    """

    network_class = PaddedSwinUNETR
    learning_rate = 8e-4
    decay = 1e-5
    weights_come_from_checkpoint: bool = False
    warmup_share: ClassVar[float] = 0.05

    def initialize(self) -> None:
        """Build, and load self-supervised weights where the environment names them."""
        super().initialize()
        path = os.environ.get(SWIN_WEIGHTS_VARIABLE)
        if not path:
            self.print_to_log_file(f"{SWIN_WEIGHTS_VARIABLE} is not set: every part is trained from scratch.")
        elif not self.weights_come_from_checkpoint:
            load_self_supervised(self.bare_network, Path(path))
            self.start_weights = "self-supervised weights"
            self.print_to_log_file(f"Self-supervised weights: {path}")

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """nnU-Net's loading; the file of self-supervised weights is not needed then."""
        self.weights_come_from_checkpoint = True
        super().load_checkpoint(filename_or_checkpoint)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """AdamW, learning rate 8e-4 after a linear warm-up over 5 % of the epochs, then cosine; weight decay 1e-5."""
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        warmup = int(self.warmup_share * self.num_epochs)
        # An epoch has hundreds of steps: the first must not have a learning rate of zero.
        first = 1 / (warmup + 1)
        return optimizer, EpochwiseWarmupCosine(optimizer, warmup, self.num_epochs, warmup_multiplier=first)


class nnFormerTrainer(ComparisonTraining):
    """nnFormer (Zhou et al., IEEE TIP 2023): nnU-Net's SGD and loss, deep supervision at three resolutions.

    The optimiser is that of its paper, which is nnU-Net's: learning rate 0.01 with polynomial decay, momentum 0.99,
    weight decay 3e-5.
    """

    network_class = NNFormer
    deep_supervision = True
    supervised_scales: ClassVar[tuple[float, ...]] = (1.0, 0.5, 0.25)

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network for the plans' patch size.

        The outputs for deep supervision are part of every checkpoint; at prediction they are not computed.
        """
        network: Any = cls.network_class(
            patch_size=configuration_manager.patch_size,
            in_channels=num_input_channels,
            out_channels=num_output_channels,
            deep_supervision=True,
            **cls.network_options,
        )
        network.deep_supervision = enable_deep_supervision
        return network

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Whether the network returns all outputs, or the finest only."""
        self.bare_network.deep_supervision = enabled

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        if not self.enable_deep_supervision:
            return None
        return [[scale] * 3 for scale in self.supervised_scales]

    def _build_loss(self) -> nn.Module:
        """nnU-Net's loss at each resolution; weights halve with the resolution and sum to one."""
        supervised, self.enable_deep_supervision = self.enable_deep_supervision, False
        loss = super()._build_loss()
        self.enable_deep_supervision = supervised
        if not supervised:
            return loss
        weights = np.asarray(self.supervised_scales)
        return DeepSupervisionWrapper(loss, weights / weights.sum())
