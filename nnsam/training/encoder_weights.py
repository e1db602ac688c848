"""Fills the frozen encoder of a network and writes down with what."""

import json
from pathlib import Path

from nnsam.data.atomic import atomic_file
from nnsam.networks.mobile_sam import MobileSAMEncoder
from nnsam.networks.mobile_sam_checkpoint import load_encoder_state
from nnsam.networks.provenance import Provenance
from nnsam.networks.sam_branch import SAMBranch, digest
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
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(record, indent=1))
    return f"nnsam: SAM branch with {provenance}"
