"""Encoders and checkpoint files, made once: TinyViT's initialisation takes a second or two."""

import pytest
import torch
from helpers.official_names import checkpoint_tensors

from nnsam.networks import MobileSAMEncoder


@pytest.fixture(scope="session")
def checkpoint() -> dict[str, torch.Tensor]:
    return checkpoint_tensors()


@pytest.fixture(scope="session")
def checkpoint_file(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "seeded.pt"
    torch.save(checkpoint, path)
    return path


@pytest.fixture(scope="session")
def encoder(checkpoint_file) -> MobileSAMEncoder:
    """An encoder with the seeded weights; not to be changed."""
    return MobileSAMEncoder.from_checkpoint(checkpoint_file)


@pytest.fixture(autouse=True)
def seed():
    """Networks that a test builds are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small gain nothing from threads, and lose much where the processor is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
