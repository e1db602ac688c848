"""Trainers of the other networks that nnSAM's paper compares with: nnU-Net's data, loss and course of training.

Only network and optimizer differ from nnU-Net, so that a comparison is one of networks. Deep supervision is off: these
networks have one output. BasicUNet, of convolutions and instance norms, takes nnU-Net's SGD. Transformers take AdamW at
1e-4 and weight decay 1e-5, as in MONAI's tutorials on them, with nnU-Net's polynomial decay; the decoder on SAM's
embedding takes AdamW at 3e-4, a choice of ours.
"""

from typing import ClassVar

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn

from nnsam.networks.baselines import UNETR, AutoSAM, BaselineNetwork, BasicUNet, SwinUNETR, check_monai
from nnsam.networks.mobile_sam import MobileSAMEncoder
from nnsam.training.sam_trainer import nnSAMTrainer


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
