"""The encoder against outputs of the official one (shared/fixtures, see its README)."""

import json

import numpy as np
import pytest
import torch
from helpers.official_names import HEAD, official_name, seeded

from nnsam.networks import MobileSAMEncoder
from nnsam.networks.mobile_sam import PREFIX, encoder_state, expected_shapes


@pytest.fixture(scope="module")
def manifest(shared) -> dict[str, tuple[int, ...]]:
    entries = json.loads((shared / "fixtures" / "mobile_sam_manifest.json").read_text())["entries"]
    return {key: tuple(entry["shape"]) for key, entry in entries.items()}


@pytest.fixture(scope="module")
def official_file(manifest, tmp_path_factory):
    """A real file with all 439 keys of the official one."""
    path = tmp_path_factory.mktemp("official") / "mobile_sam.pt"
    torch.save({key: seeded(key, shape) for key, shape in manifest.items()}, path)
    return path


def test_embedding_equals_the_official_encoders(shared, official_file):
    encoder = MobileSAMEncoder.from_checkpoint(official_file)
    golden = np.load(shared / "fixtures" / "mobile_sam_golden.npz")
    image = np.random.default_rng(20231).standard_normal((1, 3, 1024, 1024), dtype=np.float32)
    with torch.no_grad():
        found = encoder(torch.from_numpy(image))[0].numpy()
    assert found.shape == (256, 64, 64)
    for name, value in {
        "embedding_grid": found[:, ::8, ::8],
        "corner": found[:16, :8, :8],
        "channel_mean": found.mean(axis=(1, 2)),
        "channel_std": found.std(axis=(1, 2)),
    }.items():
        np.testing.assert_allclose(value, golden[name], atol=1e-4, rtol=0, err_msg=name)


def test_every_official_encoder_key_is_used_once_except_the_head(manifest):
    # Each tensor carries its number, so that two keys cannot stand in for each other.
    numbered = {key: torch.full(shape, float(i)) for i, (key, shape) in enumerate(manifest.items())}
    used = sorted(int(tensor.flatten()[0]) for tensor in encoder_state(numbered).values())
    encoder_keys = [key for key in manifest if key.startswith(PREFIX)]
    expected = [i for i, key in enumerate(manifest) if key in encoder_keys and key.removeprefix(PREFIX) not in HEAD]
    assert len(manifest) == 439
    assert len(encoder_keys) == 302
    assert len(used) == 298
    assert used == expected


def test_checkpoints_made_by_these_tests_have_the_official_keys_and_shapes(manifest):
    made = {f"{PREFIX}{official_name(name)}": shape for name, shape in expected_shapes().items()}
    made |= {f"{PREFIX}{name}": shape for name, shape in HEAD.items()}
    assert made == {key: shape for key, shape in manifest.items() if key.startswith(PREFIX)}
