"""The record of where the encoder's weights come from, and the warning where they are random."""

import copy
import hashlib
import secrets
import warnings

import pytest
import torch

from nnsam.errors import NnsamWarning
from nnsam.networks import SAMBranch
from nnsam.networks.sam_branch import Provenance, digest

SHA = hashlib.sha256(b"weights").hexdigest()


def new_origin() -> Provenance:
    """Random weights that no test has loaded yet: each origin is warned about once in a process."""
    return Provenance("random", secrets.token_hex(32))


@pytest.mark.parametrize("kind", ["official", "custom", "random"])
def test_a_record_survives_as_a_tensor_and_in_a_state_dict(kind, encoder, tmp_path):
    provenance = Provenance(kind, SHA)
    assert Provenance.from_tensor(provenance.to_tensor()) == provenance
    torch.save(SAMBranch(encoder, 32, provenance).state_dict(), tmp_path / "branch.pt")
    reloaded = SAMBranch(copy.deepcopy(encoder), 32, random_by_design=True)
    reloaded.load_state_dict(torch.load(tmp_path / "branch.pt", weights_only=True))
    assert reloaded.provenance == provenance
    assert SHA in str(provenance)
    assert ("RANDOM" in str(provenance)) == (kind == "random")


def test_kinds_keep_their_numbers():  # checkpoints hold them
    assert [Provenance(kind, SHA).to_tensor()[0].item() for kind in ("random", "official", "custom")] == [0, 1, 2]
    assert Provenance("official", SHA).to_tensor().dtype == torch.uint8


def test_without_a_record_the_weights_count_as_random_with_their_digest(encoder):
    branch = SAMBranch(encoder, 32)
    assert branch.provenance == Provenance("random", digest(encoder))


def test_the_digest_follows_every_tensor(encoder):
    changed = copy.deepcopy(encoder)
    assert digest(changed) == digest(encoder)
    changed.backbone.stages[0].blocks[0].conv1.bn.num_batches_tracked += 1
    assert digest(changed) != digest(encoder)


def test_loading_an_encoder_replaces_weights_and_record(encoder):
    branch = SAMBranch(copy.deepcopy(encoder), 32)
    state = {name: tensor + 1 for name, tensor in encoder.state_dict().items()}
    branch.load_encoder(state, Provenance("custom", SHA))
    assert branch.provenance == Provenance("custom", SHA)
    assert all(torch.equal(tensor, state[name]) for name, tensor in branch.encoder.state_dict().items())
    with pytest.raises(RuntimeError, match="Missing key"):
        branch.load_encoder({}, Provenance("official", SHA))
    assert branch.provenance.kind == "custom"


def warned(branch: SAMBranch, state) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.nn.ModuleDict({"sam": branch}).load_state_dict({f"sam.{key}": value for key, value in state.items()})
    return sum(issubclass(warning.category, NnsamWarning) for warning in caught)


def test_loading_random_weights_warns_once_per_encoder(encoder):
    branch = SAMBranch(copy.deepcopy(encoder), 32, new_origin())
    state = branch.state_dict()
    assert [warned(branch, state) for _ in range(3)] == [1, 0, 0]
    other = {**state, "origin": new_origin().to_tensor()}
    assert warned(branch, other) == 1


def test_known_weights_and_controls_do_not_warn(encoder):
    for kind in ("official", "custom"):
        branch = SAMBranch(copy.deepcopy(encoder), 32, Provenance(kind, SHA))
        assert warned(branch, branch.state_dict()) == 0
    control = SAMBranch(copy.deepcopy(encoder), 32, new_origin(), random_by_design=True)
    assert warned(control, control.state_dict()) == 0


def test_the_branch_computes_the_embedding_of_the_prepared_patch_without_gradient(encoder):
    branch = SAMBranch(encoder, 64)
    patch = torch.randn(2, 1, 48, 48, generator=torch.Generator().manual_seed(0)).requires_grad_()
    embedding = branch(patch)
    assert not embedding.requires_grad
    assert torch.equal(embedding, encoder(branch.prepare(patch)))
    assert embedding.shape == (2, 256, 4, 4)
