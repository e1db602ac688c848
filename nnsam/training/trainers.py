"""Ablations and controls of nnSAMTrainer."""

from typing import ClassVar

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn

from nnsam.networks.baselines import UNETR, AutoSAM, BaselineNetwork, BasicUNet, SwinUNETR, check_monai
from nnsam.networks.legacy import SKIP, LegacyFusedUNet, LegacySAMBranch
from nnsam.networks.mobile_sam import MobileSAMEncoder
from nnsam.networks.sam_branch import Provenance, SAMBranch, WeightsKind, digest
from nnsam.training.sam_trainer import nnSAMTrainer


class nnSAMNoLevelSetTrainer(nnSAMTrainer):
    """nnSAM v1 (arXiv 2309.16967v1): the frozen encoder without level sets."""

    use_level_sets = False


class nnSAMLevelSetOnlyTrainer(nnSAMTrainer):
    """Control: nnU-Net with the level-set head, without SAM."""

    use_sam = False


class nnSAMRandomEncoderTrainer(nnSAMTrainer):
    """Control: the same network with a frozen random encoder; tells what SAM's weights contribute."""

    random_encoder = True


class nnSAMBaselineTrainer(nnSAMTrainer):
    """Control: nnU-Net's own network and loss, with nothing added but options in the name and CPU speed-ups.

    Its checkpoints hold nnU-Net's tensors and nothing else.
    """

    use_sam = False
    use_level_sets = False


class nnSAMLegacyTrainer(nnSAMTrainer):
    """The authors' released code: no level sets, fusion at the fourth skip, 17.5 % of the encoder re-initialised.

    See :mod:`nnsam.networks.legacy` for the differences. Not meant for use on data, but to measure what they cost.
    """

    use_level_sets = False
    branch_class = LegacySAMBranch
    network_class = LegacyFusedUNet
    min_stages = SKIP + 2

    def load_encoder(self, branch: SAMBranch) -> None:
        """Loads the encoder's weights and overwrites its convolutions."""
        super().load_encoder(branch)
        assert isinstance(branch, LegacySAMBranch)
        branch.reinitialize_convolutions(self.seed or 0)
        kind: WeightsKind = "random" if branch.provenance.kind == "random" else "custom"
        branch.origin.copy_(Provenance(kind, digest(branch.encoder)).to_tensor())


class OneOutputTrainer(nnSAMTrainer):
    """Without level sets and deep supervision."""

    use_level_sets = False
    adamw_rate: float | None = None  # None: nnU-Net's SGD

    def initialize(self) -> None:
        """Builds network, optimizer and loss for one output."""
        self.enable_deep_supervision = False
        if self.adamw_rate is not None:
            self.initial_lr = self.adamw_rate
        super().initialize()

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Does nothing: there is none."""

    def configure_optimizers(self):
        """Returns AdamW, or nnU-Net's optimizer, with nnU-Net's schedule; without frozen parameters."""
        if self.adamw_rate is None:
            return super().configure_optimizers()
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, self.initial_lr, weight_decay=1e-5)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)


class MonaiTrainer(OneOutputTrainer):
    """A network of MONAI in the place of nnU-Net's."""

    use_sam = False
    baseline: ClassVar[type[BaselineNetwork]]

    @classmethod
    def check_requirements(cls) -> None:
        """Raises SetupError where MONAI is missing."""
        check_monai()

    @classmethod
    def build_network_architecture(
        cls, plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ) -> nn.Module:
        """Builds the network for the plan's patch."""
        return cls.baseline(num_input_channels, num_output_channels, tuple(configuration_manager.patch_size))


class nnSAMBasicUNetTrainer(MonaiTrainer):
    """Baseline: MONAI's BasicUNet with nnU-Net's SGD."""

    baseline = BasicUNet


class nnSAMSwinUNETRTrainer(MonaiTrainer):
    """Baseline: MONAI's SwinUNETR with AdamW."""

    baseline = SwinUNETR
    adamw_rate = 1e-4


class nnSAMUNETRTrainer(MonaiTrainer):
    """Baseline: MONAI's UNETR with AdamW."""

    baseline = UNETR
    adamw_rate = 1e-4


class nnSAMAutoSAMTrainer(OneOutputTrainer):
    """Baseline: a convolutional decoder on the frozen SAM encoder's embedding alone, with AdamW."""

    adamw_rate = 3e-4

    @classmethod
    def build_network_architecture(
        cls, plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ) -> nn.Module:
        """Builds the network from the class alone."""
        return AutoSAM(cls.branch_class(MobileSAMEncoder(), cls.sam_size), num_output_channels)
