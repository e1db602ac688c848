"""Networks of the paper's other methods."""

import sys

import pytest
import torch

from nnsam.errors import InputError, SetupError
from nnsam.networks import baselines
from nnsam.networks.baselines import UNETR, AutoSAM, BasicUNet, SwinUNETR
from nnsam.networks.mobile_sam import MobileSAMEncoder
from nnsam.networks.sam_branch import SAMBranch


@pytest.mark.parametrize(
    ("cls", "parameters", "stride"), [(BasicUNet, 1_978_532, 16), (SwinUNETR, 6_300_076, 32), (UNETR, 87_344_212, 16)]
)
def test_monais_networks(cls, parameters, stride):
    pytest.importorskip("monai")
    network = cls(1, 4, (64, 96)).eval()
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == pytest.approx(parameters, rel=0.05), found
    with torch.no_grad():
        assert network(torch.randn(2, 1, 64, 96)).shape == (2, 4, 64, 96)
    with pytest.raises(InputError, match=rf"multiples of {stride}, and the plans have 64 x 40.*64 x (48|64)"):
        cls(1, 4, (64, 40))


def test_autosam_sees_the_embedding_alone_and_trains_its_head_alone():
    network = AutoSAM(SAMBranch(MobileSAMEncoder.random(0), 64, random_by_design=True), 3)
    patch = torch.randn(2, 1, 40, 56)
    logits = network(patch)
    assert logits.shape == (2, 3, 40, 56)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.head.parameters())
    assert all(parameter.grad is None for parameter in network.sam.parameters())
    network.sam.runtime = lambda picture: torch.zeros(len(picture), 256, 4, 4)
    assert torch.equal(network(patch), network(torch.randn(2, 1, 40, 56)))


def test_nan_is_refused_at_prediction():
    network = AutoSAM(SAMBranch(MobileSAMEncoder.random(0), 64, random_by_design=True), 3).eval()
    with pytest.raises(InputError, match="NaN"):
        network(torch.full((1, 1, 32, 32), torch.nan))


def test_missing_monai_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(SetupError, match=r"MONAI's, which is not installed; (run|install)"):
        baselines.check_monai()
