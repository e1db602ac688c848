"""nnSAMLegacyTrainer: what nnSAM's released code trains, for comparison."""

from nnsam.networks.legacy import SKIP, LegacyFusedUNet, LegacySAMBranch
from nnsam.networks.provenance import Kind, Provenance
from nnsam.networks.sam_branch import SAMBranch, digest
from nnsam.training.sam_trainer import nnSAMTrainer


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
        kind: Kind = "random" if branch.provenance.kind == "random" else "custom"
        branch.origin.copy_(Provenance(kind, digest(branch.encoder)).to_tensor())
