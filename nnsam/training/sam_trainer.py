"""nnSAMTrainer: nnU-Net's trainer with a frozen SAM encoder and a level-set head.

Only hooks that nnU-Net 2.8 means to be overridden are overridden; its loops, steps and data loading are used as they
are.
"""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnsam import weights
from nnsam.errors import InputError
from nnsam.geometry.signed_distance import BAND
from nnsam.losses import LevelSetLoss
from nnsam.losses.compound import SegmentationAndLevelSetLoss
from nnsam.networks.fused_unet import FusedUNet, SegmentationNetwork
from nnsam.networks.mobile_sam import MobileSAMEncoder, load_encoder_state
from nnsam.networks.sam_branch import Provenance, SAMBranch, digest
from nnsam.support.concurrency import INTERRUPTED, TERMINATED, Terminated
from nnsam.support.files import write_json
from nnsam.training.acceleration import CPUAcceleration, check_settings
from nnsam.training.checks import check_configuration, check_fold, check_versions
from nnsam.training.loss_history import LossHistory, has_learnt
from nnsam.training.progress import EpochBar, how_to_go_on
from nnsam.training.transforms import AppendSignedDistance
from nnsam.weights import WeightsSource

WEIGHTS_RECORD = "sam_weights.json"


def fill_encoder(branch: SAMBranch, source: WeightsSource | None, seed: int = 0) -> None:
    """Loads a branch's encoder from its source, or with seeded random weights (source None, or of kind "random")."""
    if source is None or source.path is None or source.sha256 is None:
        encoder = MobileSAMEncoder.random(seed)
        branch.load_encoder(encoder.state_dict(), Provenance("random", digest(encoder)))
    else:
        branch.load_encoder(load_encoder_state(source.path), Provenance(source.kind, source.sha256))


def record_weights(branch: SAMBranch, path: Path, sam_size: int) -> str:
    """Writes the origin of a branch's weights as JSON; returns a line for the log."""
    provenance = branch.provenance
    record = {"kind": provenance.kind, "sha256": provenance.sha256, "sam_size": sam_size}
    write_json(path, record, end="")
    return f"nnsam: SAM branch with {provenance}"


class nnSAMTrainer(nnUNetTrainer):
    """The full method: frozen MobileSAM encoder, fusion at the bottleneck, level-set head with curvature loss.

    Hyper-parameters are class attributes, so that a variant is a short subclass; the first four and the two weights
    can be given in the trainer's name, see :mod:`nnsam.training.trainer_names`.

    Attributes:
        epochs: number of epochs; None is nnU-Net's.
        iterations: training iterations per epoch (validation: a fifth, at least 1); None is nnU-Net's.
        sam_size: side of the image that the SAM encoder gets, a multiple of 32.
        seed: seeds weights and, with nnUNet_n_proc_DA=0, augmentation; None leaves nnU-Net's randomness.
        use_sam: build the SAM branch.
        random_encoder: the branch keeps random weights on purpose (a control).
        use_level_sets: build the level-set head and its loss.
        band: the true level sets are tanh(distance / band), in pixels.
        level_set_weight: weight w1 of the regression of level sets.
        curvature_weight: weight w2 of the curvature term.
        curvature_warmup: share of the epochs over which w2 grows linearly from 0.
    """

    epochs: int | None = None
    iterations: int | None = None
    sam_size = 1024
    seed: int | None = None

    use_sam = True
    random_encoder = False
    use_level_sets = True
    band = BAND
    level_set_weight = 1.0
    curvature_weight = 0.1
    curvature_warmup = 0.2

    branch_class = SAMBranch
    network_class = FusedUNet
    min_stages = 1

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ):
        name = type(self).__name__
        check_versions()
        self.check_requirements()
        check_configuration(plans, configuration, name, sam=self.use_sam, min_stages=self.min_stages)
        base = nnUNet_preprocessed.get() if nnUNet_preprocessed.is_set() else None
        check_fold(fold, Path(base, plans["dataset_name"]) if base else None, dataset_json)
        if device.type == "cpu":
            check_settings()
        # Found, or downloaded, and looked at before nnU-Net creates its output folder. A run that goes on from a
        # checkpoint needs none: the checkpoint has them.
        from_file = self.use_sam and not self.random_encoder and not self._may_go_on(plans, configuration, fold)
        self._weights = weights.resolve() if from_file else None
        if self._weights is not None and self._weights.path is not None:
            load_encoder_state(self._weights.path)
        self._encoder_from_checkpoint = False
        self._acceleration: CPUAcceleration | None = None
        self._history: LossHistory | None = None
        self._train_parts: dict[str, float] = {}
        self._bar = EpochBar()
        self._saved_epochs: dict[str, int] = {}
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.epochs:
            self.num_epochs = self.epochs
        if self.iterations:
            self.num_iterations_per_epoch = self.iterations
            self.num_val_iterations_per_epoch = max(1, self.iterations // 5)

    @classmethod
    def check_requirements(cls) -> None:
        """Raises SetupError where a library is missing that this trainer needs beside the usual ones."""

    @classmethod
    def _may_go_on(cls, plans: dict, configuration: str, fold: int | str) -> bool:
        """Tells whether there is a checkpoint that this run may be meant to go on from, with --c or --val."""
        if not nnUNet_results.is_set():
            return False
        name = f"{cls.__name__}__{plans['plans_name']}__{configuration}"
        folder = Path(nnUNet_results.get(), plans["dataset_name"], name, f"fold_{fold}")
        wanted = "checkpoint_*.pth" if plans.get("continue_training") else "checkpoint_final.pth"
        return any(folder.glob(wanted))

    # ---- network ----

    @classmethod
    def build_network_architecture(
        cls, plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ) -> nn.Module:
        """Builds the network from the class alone, as nnU-Net does at prediction: no file is read.

        There is one level set per segmentation output. nnU-Net does not tell this method whether outputs are labels,
        whose first one is the background, or regions; the loss leaves the background's level set unused.
        """
        unet = nnUNetTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        branch: SAMBranch | None = None
        if cls.use_sam:
            branch = cls.branch_class(MobileSAMEncoder(), cls.sam_size, random_by_design=cls.random_encoder)
        return cls.network_class(unet, branch, num_output_channels if cls.use_level_sets else 0)

    def initialize(self) -> None:
        """Builds network, optimizer and loss, then loads the frozen encoder's weights."""
        self._seed()
        super().initialize()
        network = self.bare_network
        if network.level_set_head is not None and not self.label_manager.has_regions:
            network.level_set_head.skip = 1
        if network.sam is not None and not self._encoder_from_checkpoint:
            self.load_encoder(network.sam)

    def load_encoder(self, branch: SAMBranch) -> None:
        """Fills the frozen encoder: SAM's weights, or random ones where the trainer or the user asks for them."""
        if self._weights is None and not self.random_encoder:
            self._weights = weights.resolve()
        fill_encoder(branch, self._weights, self.seed or 0)

    @property
    def bare_network(self) -> SegmentationNetwork:
        """The network without the wrappers of DDP and torch.compile."""
        network: Any = self.network
        network = network.module if self.is_ddp else network
        return getattr(network, "_orig_mod", network)

    def configure_optimizers(self):
        """Returns nnU-Net's optimizer and schedule, without the frozen parameters."""
        optimizer, schedule = super().configure_optimizers()
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]
        return optimizer, schedule

    def load_checkpoint(self, filename_or_checkpoint) -> None:
        """Loads a checkpoint of this trainer; it brings the encoder's weights along."""
        self._encoder_from_checkpoint = True
        super().load_checkpoint(filename_or_checkpoint)
        if isinstance(filename_or_checkpoint, str):
            self._saved_epochs[Path(filename_or_checkpoint).name] = self.current_epoch

    def save_checkpoint(self, filename: str) -> None:
        """Saves as nnU-Net does."""
        super().save_checkpoint(filename)
        if not self.disable_checkpointing:
            self._saved_epochs[Path(filename).name] = self.current_epoch + 1

    # ---- loss and targets ----

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        if not self.use_level_sets:
            return loss
        level_sets = LevelSetLoss(
            regression_weight=self.level_set_weight,
            curvature_weight=self.curvature_weight,
            band=self.band,
            spacing=self.level_set_spacing,
        )
        return SegmentationAndLevelSetLoss(loss, level_sets)

    def get_training_transforms(self, *args, **kwargs):
        """Returns nnU-Net's training transforms, with the level-set target at the end."""
        return self._with_level_sets(nnUNetTrainer.get_training_transforms(*args, **kwargs))

    def get_validation_transforms(self, *args, **kwargs):
        """Returns nnU-Net's validation transforms, with the level-set target at the end."""
        return self._with_level_sets(nnUNetTrainer.get_validation_transforms(*args, **kwargs))

    def _with_level_sets(self, transforms):
        if self.use_level_sets:
            manager = self.label_manager
            transforms.transforms.append(
                AppendSignedDistance(
                    None if manager.has_regions else manager.foreground_labels,
                    has_regions=manager.has_regions,
                    ignore_label=manager.ignore_label,
                    band=self.band,
                    spacing=self.level_set_spacing,
                )
            )
        return transforms

    @property
    def level_set_spacing(self) -> tuple[float, ...]:
        """(y, x) spacing of the preprocessed images, for which distances and curvature are corrected."""
        return tuple(self.configuration_manager.spacing[-2:])

    # ---- course of a training ----

    def run_training(self) -> None:
        """Trains as nnU-Net does; Ctrl-C says what --c would go on from.

        Raises:
            SystemExit: after Ctrl-C with 130, after SIGTERM in a command of this package with 143; with
                ``NNSAM_TRACEBACK`` the KeyboardInterrupt itself.
        """
        try:
            super().run_training()
        except KeyboardInterrupt as error:
            self._bar.stop()
            self.print_to_log_file(
                f"nnsam: interrupted in epoch {self.current_epoch} of {self.num_epochs}; "
                f"{how_to_go_on(self.output_folder, self._saved_epochs)}"
            )
            if os.environ.get("NNSAM_TRACEBACK"):
                raise
            # The sentence above has said it all; the stack would only push it off the screen.
            raise SystemExit(TERMINATED if isinstance(error, Terminated) else INTERRUPTED) from None
        finally:
            self._bar.stop()

    def on_train_start(self) -> None:
        """Prepares data loading and speed, and writes down what the encoder's weights are."""
        if not self.was_initialized:
            self.initialize()
        # After initialize, whose frozen encoder has to be the same in every process of a distributed training, while
        # each process draws its own samples.
        self._seed(self.local_rank)
        super().on_train_start()
        self._history = LossHistory(self.output_folder, self.current_epoch) if self.use_level_sets else None
        if self.local_rank == 0 and self.bare_network.sam is not None:
            record = Path(self.output_folder, WEIGHTS_RECORD)
            self.print_to_log_file(record_weights(self.bare_network.sam, record, self.sam_size))
        if self.device.type == "cpu":
            channels, patch_size = self.num_input_channels, self.configuration_manager.patch_size
            patch = torch.randn(self.batch_size, channels, *patch_size, generator=torch.Generator().manual_seed(0))
            self._acceleration = CPUAcceleration(self.bare_network, patch, self.print_to_log_file)
            self._acceleration.enable()

    def on_train_epoch_start(self) -> None:
        """Warms the curvature term up."""
        super().on_train_epoch_start()
        self._start_bar("training", self.num_iterations_per_epoch)
        if self.use_level_sets:
            warmup = self.curvature_warmup * self.num_epochs
            self.loss.level_set_loss.curvature_scale = min(1.0, (self.current_epoch + 1) / warmup) if warmup else 1.0
            self.loss.pop_means()

    def train_step(self, batch: dict) -> dict:
        """Does nnU-Net's step, after a look at the images."""
        self._refuse_nonfinite(batch)
        outputs = super().train_step(batch)
        self._bar.step()
        return outputs

    def validation_step(self, batch: dict) -> dict:
        """Does nnU-Net's step, after a look at the images."""
        self._refuse_nonfinite(batch)
        outputs = super().validation_step(batch)
        self._bar.step()
        return outputs

    def _refuse_nonfinite(self, batch: dict) -> None:
        finite = torch.isfinite(batch["data"]).flatten(1).all(dim=1)
        if not finite.all():
            cases = sorted({str(key) for key, good in zip(batch["keys"], finite.tolist(), strict=True) if not good})
            raise InputError(
                f"training case {', '.join(cases)} contains NaN or infinite values after preprocessing; expected "
                f"finite intensities: replace these values in the image files and run nnUNetv2_plan_and_preprocess "
                f"again"
            )

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Logs the parts of the training loss."""
        self._bar.stop()
        super().on_train_epoch_end(train_outputs)
        if self.use_level_sets:
            self._train_parts = self._log_parts("train")

    def on_validation_epoch_start(self) -> None:
        """Begins the bar."""
        super().on_validation_epoch_start()
        self._start_bar("validation", self.num_val_iterations_per_epoch)

    def _start_bar(self, what: str, steps: int) -> None:
        if self.local_rank == 0:
            self._bar.start(f"Epoch {self.current_epoch} of {self.num_epochs}, {what}", steps)

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Logs the parts of the validation loss and redraws their picture."""
        self._bar.stop()
        super().on_validation_epoch_end(val_outputs)
        if self.use_level_sets:
            validation_parts = self._log_parts("val")
            if self.local_rank == 0 and self._history is not None:
                self._history.add(self.current_epoch, self._train_parts, validation_parts)

    def on_train_end(self) -> None:
        """Says so where the level-set head has learnt nothing."""
        if self.level_set_weight and not has_learnt(self._train_parts):
            share = self._train_parts["level_set_share"]
            self.print_to_log_file(
                f"WARNING: the level-set head has learnt nothing: its loss is {share:.2f} of what a constant has. "
                "Train longer, or look at loss_parts.png and at the weights of its loss"
            )
        super().on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validates in float32, as nnUNetv2_predict computes."""
        if self._acceleration is not None:
            self._acceleration.disable()
        super().perform_actual_validation(save_probabilities)

    def _log_parts(self, phase: str) -> dict[str, float]:
        # In distributed training these are the means of the first process; nnU-Net's own losses are gathered.
        parts = self.loss.pop_means()
        self.print_to_log_file(f"{phase}_loss parts", {name: round(value, 4) for name, value in parts.items()})
        return parts

    def _seed(self, rank: int = 0) -> None:
        if self.seed is not None:
            seed = (self.seed + 1_000_003 * rank) % 2**32
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
