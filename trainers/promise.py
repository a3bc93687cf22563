"""The ProMISe trainer: nnU-Net's training loop around a promptable network."""

from __future__ import annotations

import math
import sys
from typing import Any, ClassVar, cast

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_promise.errors import UserError
from nnunetv2_promise.inference.configuration import follow_prompts, ignore_prompts
from nnunetv2_promise.inference.prompted_network import PromptedNetwork
from nnunetv2_promise.network_architectures import ProMISe, load_sam_encoder
from nnunetv2_promise.planning.prompt_settings import PromptSettings
from nnunetv2_promise.sam_weights import find_sam_weights
from nnunetv2_promise.trainers.restartable import RestartableTraining
from nnunetv2_promise.training.case_order import CaseOrder
from nnunetv2_promise.training.click_scores import click_scores, on_another_object
from nnunetv2_promise.training.data_loading import make_dataloaders
from nnunetv2_promise.training.losses import ProMISeLoss, loss_of_labels
from nnunetv2_promise.training.object_maps import ObjectDataset
from nnunetv2_promise.training.pretrained_heads import fit_pretrained
from nnunetv2_promise.training.prompt_sampling import MOST_LABELS, PromptedTarget, prompt_batch
from nnunetv2_promise.training.records import write_model_card, write_run_record
from nnunetv2_promise.training.supported import check_supported
from nnunetv2_promise.training.validation import predict_validation_cases, summarise_validation


class ProMISeTrainer(RestartableTraining):
    """Trains ProMISe on nnU-Net's preprocessed data (paper, sections 2 and 3.1).

    Each patch is clicked on one object of one label; what the same click means for other labels is learnt from it, too.
    The plans say whether the target is the object or its label. Class attributes are the knobs that variants turn.
    """

    is_ddp: bool
    network: nn.Module

    prompt_kinds: ClassVar[tuple[str, ...]] = ("points", "scribbles")
    epochs: ClassVar[int] = 200
    architecture_overrides: ClassVar[dict[str, Any]] = {}
    boundary_weight: ClassVar[float] = 10.0
    object_points: ClassVar[int] = 10
    random_points: ClassVar[int] = 10
    gradient_norm: ClassVar[float] = 1.0
    min_val_iterations: ClassVar[int] = 8
    mirror_at_prediction: ClassVar[bool] = True

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
        self.grad_scaler = None  # bfloat16 needs none
        settings = PromptSettings.from_configuration(self.configuration_manager.configuration)
        self.target = settings.target
        self.placement = settings.placement
        self.initial_lr = settings.initial_lr
        self.weight_decay = 0.0
        self.num_epochs = self.epochs
        self.oversample_foreground_percent = settings.foreground_share
        self.probabilistic_oversampling = True
        self.enable_deep_supervision = False
        self.save_every = 5
        self.weights_come_from_checkpoint = False

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """Build the network, and teach the predictor to follow prompts.

        nnU-Net calls this in training and at prediction; only the predictor keeps following prompts.
        """
        settings = PromptSettings.from_configuration(configuration_manager.configuration)
        follow_prompts(plans_manager, configuration_manager, cls.prompt_kinds)
        architecture = settings.architecture | cls.architecture_overrides
        network = ProMISe(**architecture, in_channels=num_input_channels)
        if network.labels not in (1, num_output_channels - 1):
            raise UserError(
                f"The plans' network has logits for {network.labels} labels and the dataset {num_output_channels - 1} "
                "foreground labels; plan the dataset again."
            )
        return PromptedNetwork(
            network,
            patch_size=settings.patch_size,
            heads=num_output_channels,
            image_channels=num_input_channels,
            one_component=settings.target == "object",
        )

    def initialize(self) -> None:
        """Build, load SAM's weights where the plans ask for them, wrap for DDP."""
        # nnU-Net's own wrapping fits CUDA only and would come before the weights.
        is_ddp, self.is_ddp = self.is_ddp, False
        super().initialize()
        self.is_ddp = is_ddp
        ignore_prompts(self.plans_manager, self.configuration_manager)
        self._load_sam_weights(self.promise)
        self.print_to_log_file(self.promise.trained_of_all())
        if self.is_ddp:
            ids = [self.local_rank] if self.device.type == "cuda" else None
            self.network = DistributedDataParallel(self.network, device_ids=ids)
        if not self.weights_come_from_checkpoint:
            for line in fit_pretrained(self.prompted_network, self.promise.in_channels, sys.argv):
                self.print_to_log_file(line)

    @property
    def prompted_network(self) -> PromptedNetwork:
        """The network without DDP's and the compiler's wrappers."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        return cast(PromptedNetwork, getattr(network, "_orig_mod", network))

    @property
    def promise(self) -> ProMISe:
        """The network that plans describe."""
        return cast(ProMISe, self.prompted_network.network)

    def _load_sam_weights(self, network: ProMISe) -> None:
        checkpoint = PromptSettings.from_configuration(self.configuration_manager.configuration).sam_checkpoint
        if checkpoint is None:
            self.print_to_log_file("The plans name no SAM weights: every part is trained from scratch.")
        elif not self.weights_come_from_checkpoint:
            path = find_sam_weights(checkpoint)
            load_sam_encoder(network, path)
            self.start_weights = f"SAM {checkpoint}"
            self.print_to_log_file(f"SAM weights: {path}")

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """AdamW over the trained parameters, learning rate falling linearly each epoch (paper, section 3.1)."""
        settings = PromptSettings.from_configuration(self.configuration_manager.configuration)
        if settings.sam_checkpoint is not None:
            self.promise.freeze_pretrained()
        parameters = [p for part in self.promise.parameter_parts().values() for p in part]
        optimizer = torch.optim.AdamW(parameters, self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs, exponent=1.0)

    def _build_loss(self) -> nn.Module:
        return ProMISeLoss(boundary_weight=self.boundary_weight)

    def _set_batch_size_and_oversample(self) -> None:
        """Give every process its share of the batch, at least one patch; all oversample alike."""
        batch_size = self.configuration_manager.batch_size
        if distributed.is_available() and distributed.is_initialized():
            batch_size = math.ceil(batch_size / distributed.get_world_size())
        self.batch_size = batch_size

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """The network has one output; there is nothing to switch."""

    def plot_network_architecture(self) -> None:
        """nnU-Net's plot traces a network that takes an image alone; ours takes points as well."""

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:  # noqa: N802
        """nnU-Net's augmentation, and its mirroring at prediction unless a variant turns it off."""
        augmentation = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if not self.mirror_at_prediction:
            self.inference_allowed_mirroring_axes = None
        return augmentation

    def get_dataloaders(self) -> tuple[Any, Any]:
        """nnU-Net's loaders, with foreground patches placed as at prediction, and each case once in an epoch."""
        return make_dataloaders(self, order_of=self._order_of, inside=self.placement == "inside")

    def _order_of(self, cases: list[str]) -> CaseOrder:
        processes = distributed.get_world_size() if self.is_ddp else 1
        return CaseOrder(
            cases,
            batch_size=self.batch_size,
            seed=(self.seed, 0 if self.fold == "all" else self.fold),
            rank=self.local_rank,
            processes=processes,
            start=self.current_epoch * math.ceil(len(cases) / (self.batch_size * processes)),
        )

    def get_tr_and_val_datasets(self) -> tuple[Any, Any]:
        """nnU-Net's datasets; an epoch is one random patch for each training case (paper, section 3.1).

        With objects as targets each case holds its objects as well.
        """
        dataset_tr, dataset_val = super().get_tr_and_val_datasets()
        shared = sorted(set(dataset_tr.identifiers) & set(dataset_val.identifiers))
        if shared and self.fold != "all":
            raise UserError(
                f"{self.preprocessed_dataset_folder_base}/splits_final.json: fold {self.fold} trains and validates on "
                f"'{shared[0]}'; every case may be in one part only, fix the file."
            )
        processes = distributed.get_world_size() if self.is_ddp else 1
        self.num_iterations_per_epoch = math.ceil(len(dataset_tr.identifiers) / (self.batch_size * processes))
        val_iterations = math.ceil(len(dataset_val.identifiers) / (self.batch_size * processes))
        self.num_val_iterations_per_epoch = max(val_iterations, self.min_val_iterations)
        if self.target == "label":
            return dataset_tr, dataset_val
        ignore_label = self.label_manager.ignore_label
        return ObjectDataset(dataset_tr, ignore_label=ignore_label), ObjectDataset(
            dataset_val, ignore_label=ignore_label
        )

    def on_train_start(self) -> None:
        """Keep a record of the run beside its checkpoints."""
        super().on_train_start()
        if self.local_rank == 0:
            write_run_record(self)

    def _prompt(
        self, segmentation: torch.Tensor, *, object_points: int, random_points: int, most_labels: int = 1
    ) -> PromptedTarget:
        return prompt_batch(
            segmentation,
            self.label_manager.foreground_labels,
            object_points=object_points,
            random_points=random_points,
            ignore_label=self.label_manager.ignore_label,
            most_labels=min(most_labels, self.promise.labels),
        )

    def _ignored(self, segmentation: torch.Tensor) -> torch.Tensor | None:
        return segmentation[:, :1] == self.label_manager.ignore_label if self.label_manager.has_ignore_label else None

    def train_step(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """One step on one click for each patch."""
        image = batch["data"].to(self.device, non_blocking=True)
        segmentation = batch["target"].to(self.device, non_blocking=True)
        prompted = self._prompt(
            segmentation,
            object_points=self.object_points,
            random_points=self.random_points,
            most_labels=MOST_LABELS,
        )
        logits = self.network(image, prompted.points, label_index=prompted.labels)
        return self._take_step(loss_of_labels(self.loss, logits, prompted.targets, self._ignored(segmentation)))

    def _take_step(self, loss: torch.Tensor) -> dict[str, np.ndarray]:
        """Backward pass, gradients clipped for each part of the network, and the optimiser's step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for parameters in self.promise.parameter_parts().values():
            torch.nn.utils.clip_grad_norm_(parameters, self.gradient_norm)
        self.optimizer.step()
        return {"loss": loss.detach().cpu().numpy()}

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One click on one object of each patch; true and false voxels by label, as nnU-Net counts them."""
        image = batch["data"].to(self.device, non_blocking=True)
        segmentation = batch["target"].to(self.device, non_blocking=True)
        prompted = self._prompt(segmentation, object_points=1, random_points=0)
        ignored = self._ignored(segmentation)
        logits = self.network(image, prompted.points, label_index=prompted.label_index)
        loss = self.loss(logits, prompted.target, ignored)
        scores = click_scores(logits, prompted, len(self.label_manager.foreground_labels), ignored)
        if self.target == "object":
            scores["astray"] = on_another_object(logits, prompted, segmentation)
        return {"loss": loss.detach().cpu().numpy(), **scores}

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """nnU-Net's pseudo Dice, and the share of masks that lie more on another object than on the clicked one."""
        super().on_validation_epoch_end(val_outputs)
        if self.target == "object":
            clicks, astray = self._sum_over_processes(sum(output["astray"] for output in val_outputs))
            share = f"{astray / clicks:.1%}" if clicks else "none"
            self.print_to_log_file(f"Masks more on another object: {share} of {clicks} clicks")

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """nnU-Net's loading; SAM's own file is not needed then, the checkpoint holds its weights."""
        self.weights_come_from_checkpoint = True
        super().load_checkpoint(filename_or_checkpoint)

    def on_train_end(self) -> None:
        """nnU-Net's end, and a model card for whoever gets the model."""
        super().on_train_end()
        if self.local_rank == 0:
            write_model_card(self)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Click each object of each validation case once, predict, and write nnU-Net's ``validation`` folder."""
        self.network.eval()
        predict_validation_cases(self, save_probabilities=save_probabilities)
        if self.is_ddp:
            distributed.barrier()
        if self.local_rank == 0:
            summarise_validation(self)
