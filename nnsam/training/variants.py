"""Ablations and controls of nnSAMTrainer."""

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
