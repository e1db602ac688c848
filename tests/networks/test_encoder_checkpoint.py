"""Reading checkpoints: strict in names and shapes, and every refusal one clear sentence."""

import os
import re

import pytest
import torch
from helpers.official_names import official_name

from nnsam.errors import WeightsError
from nnsam.networks import MobileSAMEncoder
from nnsam.networks.mobile_sam import PREFIX, encoder_state, expected_shapes, timm_name

SOME = "image_encoder.layers.1.downsample.conv2.c.weight"


def test_names_are_translated_one_to_one():
    names = {timm_name(official_name(name)): name for name in expected_shapes()}
    assert len(names) == 298
    assert all(found == name for found, name in names.items())


def test_the_file_is_loaded_bit_for_bit(checkpoint, encoder):
    state = encoder.state_dict()
    assert len(state) == 298
    for name, tensor in state.items():
        assert torch.equal(tensor, checkpoint[PREFIX + official_name(name)]), name


def test_a_file_with_the_encoder_alone_is_accepted(checkpoint, encoder, tmp_path):
    alone = {key.removeprefix(PREFIX): tensor for key, tensor in checkpoint.items() if key.startswith(PREFIX)}
    torch.save(alone, tmp_path / "encoder.pt")
    found = MobileSAMEncoder.from_checkpoint(tmp_path / "encoder.pt").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in encoder.state_dict().items())


def test_stored_attention_indices_and_a_missing_head_do_not_matter(checkpoint):
    tensors = {key: tensor for key, tensor in checkpoint.items() if "head." not in key}
    tensors["image_encoder.layers.1.blocks.0.attn.attention_bias_idxs"] = torch.zeros(49, 49, dtype=torch.long)
    assert encoder_state(tensors).keys() == encoder_state(checkpoint).keys()


def without(key):
    return lambda tensors: tensors.pop(key)


def add(key, tensor):
    return lambda tensors: tensors.update({key: tensor})


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (without(SOME), "1 missing (first: backbone.stages.2.downsample.conv2.conv.weight)"),
        (without("image_encoder.layers.0.blocks.0.conv1.bn.num_batches_tracked"), "1 missing"),
        (add("image_encoder.layers.4.weight", torch.zeros(1)), "1 unknown (first: backbone.stages.4.weight)"),
        (add("image_encoder.neck.4.weight", torch.zeros(1)), "1 unknown (first: neck.4.weight)"),
        (add(SOME, torch.zeros(2, 2)), "1 of another shape (first: backbone.stages.2.downsample.conv2.conv.weight)"),
        (lambda tensors: tensors.clear(), "298 missing"),
        (lambda tensors: [tensors.pop(key) for key in list(tensors) if "layers.2" in key], "missing"),
    ],
)
def test_anything_else_that_does_not_fit_is_named(checkpoint, damage, expected):
    tensors = dict(checkpoint)
    damage(tensors)
    with pytest.raises(WeightsError, match=re.escape(expected)) as caught:
        encoder_state(tensors, source="weights.pt")
    assert str(caught.value).startswith("weights.pt is not a MobileSAM (vit_t) image encoder")
    assert "\n" not in str(caught.value)


def test_another_models_file_is_refused_with_its_path(tmp_path):
    torch.save({"image_encoder.patch_embed.proj.weight": torch.zeros(768, 3, 16, 16)}, tmp_path / "sam_vit_b.pth")
    with pytest.raises(WeightsError, match=r"sam_vit_b\.pth is not a MobileSAM .* 298 missing .* 1 unknown"):
        MobileSAMEncoder.from_checkpoint(tmp_path / "sam_vit_b.pth")


def test_a_missing_or_truncated_file_is_refused(checkpoint_file, tmp_path):
    with pytest.raises(WeightsError, match="missing"):
        MobileSAMEncoder.from_checkpoint(tmp_path / "none.pt")
    (tmp_path / "half.pt").write_bytes(checkpoint_file.read_bytes()[:1_000_000])
    with pytest.raises(WeightsError, match="truncated"):
        MobileSAMEncoder.from_checkpoint(tmp_path / "half.pt")


class Payload:
    """An object whose loading makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_run(checkpoint, tmp_path):
    torch.save({**checkpoint, "image_encoder.extra": Payload(tmp_path / "proof")}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match="would run code"):
        MobileSAMEncoder.from_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "proof").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "proof").exists()  # it would have been run
