"""nnU-Net's U-Nets, clickable: automatic mask first, corrections after; nnInteractive's models, fine-tuned."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.helpers import dummy_context
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, autocast, nn
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_promise.network_architectures.interactive.channels import CHANNELS
from nnunetv2_promise.network_architectures.weights.weight_files import check_weights, read_weight_file
from nnunetv2_promise.planning.nninteractive_folder import OUTPUTS
from nnunetv2_promise.planning.unet_settings import INTERACTIVE_KEY, engine_placement, prompt_form
from nnunetv2_promise.trainers.restartable import RestartableTraining
from nnunetv2_promise.training.click_rounds import ClickSchedule, average_gradients, backward_rounds
from nnunetv2_promise.training.click_scores import click_scores
from nnunetv2_promise.training.click_validation import validate_clicks
from nnunetv2_promise.training.clicked_patches import ClickedPatches, choose_objects, touching
from nnunetv2_promise.training.data_loading import make_dataloaders
from nnunetv2_promise.training.learning_rate import GroupedPolyLR
from nnunetv2_promise.training.losses import ProMISeLoss
from nnunetv2_promise.training.nninteractive_files import unet_inference_info, write_nninteractive_files
from nnunetv2_promise.training.pretrained_heads import pretrained_weights_of_command, take_over_heads
from nnunetv2_promise.training.prompt_sampling import PromptedTarget
from nnunetv2_promise.training.records import write_run_record
from nnunetv2_promise.training.supported import check_supported
from nnunetv2_promise.training.zoomed_loading import ZoomingDataLoader

Round = Callable[[Sequence[Tensor]], Tensor]


class InteractiveUNetTrainer(RestartableTraining):
    """Trains a U-Net to follow clicks in nnInteractive's form, from its errors.

    With prompts in the decoder, each step also trains the automatic mask with nnU-Net's own loss; the U-Net runs once
    for all rounds. Class attributes are the knobs that variants turn.
    """

    is_ddp: bool
    network: nn.Module

    epochs: ClassVar[int] = 200
    learning_rate: ClassVar[float] = 3e-4
    correction_lr_factor: ClassVar[float] = 10.0
    decay: ClassVar[float] = 3e-5
    schedule: ClassVar[ClickSchedule] = ClickSchedule()
    click_weight: ClassVar[float] = 1.0
    zoom_share: ClassVar[float] = 0.1
    foreground_share: ClassVar[float] = 0.67
    gradient_norm: ClassVar[float] = 12.0

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        check_supported(plans, configuration, dataset_json)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.learning_rate
        self.weight_decay = self.decay
        self.prompts = prompt_form(self.configuration_manager.configuration)
        self.placement = engine_placement(self.configuration_manager.configuration)
        self.enable_deep_supervision = self.segments_alone
        self.num_epochs = self.epochs
        self.oversample_foreground_percent = self.foreground_share
        self.probabilistic_oversampling = True
        self.weights_come_from_checkpoint = False
        self.heads_taken = False
        self.click_loss = ProMISeLoss(boundary_weight=0)
        self.rng = np.random.default_rng()

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """Build the network as nnInteractive's engine does: image and interaction channels in, object or not out."""
        return get_network_from_plans(
            configuration_manager.network_arch_class_name,
            configuration_manager.network_arch_init_kwargs,
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels + CHANNELS,
            OUTPUTS,
            allow_init=True,
            deep_supervision=enable_deep_supervision,
        )

    @property
    def bare_network(self) -> Any:
        """The network without DDP's and the compiler's wrappers."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        return getattr(network, "_orig_mod", network)

    @property
    def segments_alone(self) -> bool:
        """Whether the network has an automatic mask: prompts enter its decoder."""
        return self.prompts == "decoder"

    def initialize(self) -> None:
        """Build, take over the weights that the plans name, wrap for DDP."""
        # nnU-Net's own wrapping fits CUDA only.
        is_ddp, self.is_ddp = self.is_ddp, False
        super().initialize()
        self.is_ddp = is_ddp
        start = self.configuration_manager.configuration[INTERACTIVE_KEY].get("start_from")
        if start is not None and not self.weights_come_from_checkpoint:
            content = read_weight_file(start)
            check_weights(start, "network_weights", content["network_weights"], self.bare_network.state_dict())
            self.bare_network.load_state_dict(content["network_weights"])
            self.print_to_log_file(f"Started from {start}, segmentation head included.")
        if self.is_ddp:
            self._set_batch_size_and_oversample()  # this process's share
            self.loss = self._build_loss()  # batch Dice is over all processes
            ids = [self.local_rank] if self.device.type == "cuda" else None
            self.network = DistributedDataParallel(self.network, device_ids=ids)

    def _do_i_compile(self) -> bool:
        """No: the network is called in three forms, and nnInteractive's engine compiles by itself."""
        return False

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, GroupedPolyLR]:
        """AdamW; corrections learn ``correction_lr_factor`` times as fast as the U-Net, which may be trained."""
        groups: list[dict[str, Any]] = [{"params": [], "lr_factor": 1.0}]
        if self.segments_alone:
            groups.append({"params": [], "lr_factor": self.correction_lr_factor})
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups[name.startswith("corrections.")]["params"].append(parameter)
        optimizer = torch.optim.AdamW(groups, self.initial_lr, weight_decay=self.weight_decay)
        epochs = max(1, self.num_epochs)  # the schedule divides by it, and there are trainings of 0 epochs
        return optimizer, GroupedPolyLR(optimizer, self.initial_lr, epochs)

    def plot_network_architecture(self) -> None:
        """nnU-Net's plot traces a network that takes an image alone; ours takes interactions as well."""

    def get_dataloaders(self) -> tuple[Any, Any]:
        """nnU-Net's loaders; patches lie as our commands place them and as viewers do, a share is zoomed as by both."""
        shares = {"zoom_share": self.zoom_share, "inside_share": 0.5 if self.placement == "inside" else 0.0}
        return make_dataloaders(cast(Any, self), partial(ZoomingDataLoader, **shares))

    def on_train_start(self) -> None:
        """Take over the heads of pretrained weights, which nnU-Net leaves out; keep a record of the run."""
        super().on_train_start()
        pretrained = pretrained_weights_of_command(sys.argv)
        if pretrained is not None and self.current_epoch == 0:
            self.heads_taken = take_over_heads(self.bare_network, pretrained)
            told = "taken over." if self.heads_taken else "for other labels, not taken."
            self.print_to_log_file(f"Segmentation heads of {pretrained}: {told}")
        if self.local_rank == 0:
            write_run_record(cast(Any, self))

    def on_epoch_start(self) -> None:
        """Draw clicks by the epoch's number, so that a resumed training draws what an undisturbed one draws."""
        super().on_epoch_start()
        self.rng = np.random.default_rng(np.random.randint(2**31))

    def train_step(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """One step: the automatic mask if there is one, then rounds of clicks on one object of each patch."""
        image, target, patches, labels = self._unpack(batch)
        if self.segments_alone:
            features = self._encode(image)
            rounds = [self._automatic_round(target, patches, labels)]
        else:
            features, rounds = [image], []
        return self._learn(features, rounds + self._click_rounds(patches, labels))

    def _learn(self, features: list[Tensor], rounds: list[Round]) -> dict[str, np.ndarray]:
        """One step on the sum of the rounds' losses."""
        self.optimizer.zero_grad(set_to_none=True)
        scale = self.grad_scaler.scale if self.grad_scaler is not None else _unscaled
        losses = backward_rounds(features, rounds, scale=scale)
        if self.is_ddp:
            average_gradients(self.network.parameters())
        self._update()
        return {"loss": torch.stack(losses).sum().cpu().numpy()}

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Two clicks on one object of each patch; true and false voxels by label, as nnU-Net counts them."""
        image, _, patches, labels = self._unpack(batch)
        features = self._encode(image) if self.segments_alone else [image]
        for _ in range(2):
            patches.add_clicks(1, "central")
            logits = self._answer(features, patches, labels)
            patches.set_mask(logits[:, 1:] > logits[:, :1])
        target = patches.objects.to(torch.uint8)
        loss = self.click_loss(logits, target, patches.ignored)
        nothing = torch.zeros(len(target), 0, 3, dtype=torch.long)
        prompted = PromptedTarget(target, labels, nothing, target[:, :0], labels[:, None][:, :0])
        scores = click_scores(logits, prompted, len(self.label_manager.foreground_labels), patches.ignored)
        return {"loss": loss.detach().cpu().numpy(), **scores}

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's validation of the automatic mask, if there is one; then corrective clicks on every object."""
        if self.segments_alone:
            super().perform_actual_validation(save_probabilities)
        validate_clicks(self, self.bare_network, automatic=self.segments_alone)

    def on_train_end(self) -> None:
        """nnU-Net's end; the folder becomes one that nnInteractive's engine, server and viewers load."""
        super().on_train_end()
        if self.local_rank == 0:
            write_nninteractive_files(self, unet_inference_info(self.configuration_manager.configuration))

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """nnU-Net's loading; the weights that training started from are not needed then."""
        self.weights_come_from_checkpoint = True
        super().load_checkpoint(filename_or_checkpoint)

    def _unpack(self, batch: dict[str, Any]) -> tuple[Tensor, list[Tensor], ClickedPatches, Tensor]:
        """Image, nnU-Net's targets, an object of each patch, and its label's index."""
        image = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"] if isinstance(batch["target"], list) else [batch["target"]]
        target = [level.to(self.device, non_blocking=True) for level in target]
        segmentation = target[0]
        objects, labels = choose_objects(segmentation, self.label_manager.foreground_labels, self.rng)
        ignored = segmentation == self.label_manager.ignore_label if self.label_manager.has_ignore_label else None
        return image, target, ClickedPatches(objects, self.rng, zooms=batch["zoom"], ignored=ignored), labels

    def _automatic_round(self, target: list[Tensor], patches: ClickedPatches, labels: Tensor) -> Round:
        """nnU-Net's own loss of the automatic mask, which a share of the objects then starts from."""

        def compute(features: Sequence[Tensor]) -> Tensor:
            with self._autocast():
                logits = self.bare_network(features)
                loss = self.loss(logits, target if self.enable_deep_supervision else target[0])
            self._start_from_automatic_mask(logits, patches, labels)
            return loss

        return compute

    def _start_from_automatic_mask(
        self, logits: Tensor | list[Tensor], patches: ClickedPatches, labels: Tensor
    ) -> None:
        """Give the objects their automatic masks, in a share of the steps."""
        if self.rng.random() < self.schedule.mask_share:
            finest = logits[0] if isinstance(logits, list) else logits
            labelled = finest.detach().argmax(1, keepdim=True) == 1 + labels.view(-1, 1, 1, 1, 1)
            patches.set_mask(touching(labelled, patches.objects))

    def _click_rounds(self, patches: ClickedPatches, labels: Tensor) -> list[Round]:
        return [self._click_round(patches, labels) for _ in range(self.schedule.rounds)]

    def _click_round(self, patches: ClickedPatches, labels: Tensor) -> Round:
        """The loss of the object after one more round of clicks."""

        def compute(features: Sequence[Tensor]) -> Tensor:
            patches.add_clicks(*self.schedule.draw(self.rng))
            logits = self._answer(features, patches, labels)
            patches.set_mask((logits[:, 1:] > logits[:, :1]).detach())
            loss = self.click_loss(logits, patches.objects.to(torch.uint8), patches.ignored)
            return self.click_weight / self.schedule.rounds * loss

        return compute

    def _encode(self, image: Tensor) -> list[Tensor]:
        with self._autocast():
            return self.bare_network.encode(image)

    def _answer(self, features: Sequence[Tensor], patches: ClickedPatches, labels: Tensor) -> Tensor:
        """(B, 2, D, H, W) logits of the objects."""
        with self._autocast():
            if self.segments_alone:
                return self.bare_network(features, patches.channels, labels)
            return self.bare_network(torch.cat([features[0], patches.channels], dim=1))

    def _autocast(self) -> contextlib.AbstractContextManager:
        return autocast("cuda") if self.device.type == "cuda" else dummy_context()

    def _update(self) -> None:
        """nnU-Net's clipped step."""
        if self.grad_scaler is None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_norm)
            self.optimizer.step()
            return
        self.grad_scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_norm)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()


def _unscaled(loss: Tensor) -> Tensor:
    return loss
