"""Network and loss in two processes (gloo), without a search for unused parameters."""

import json
import sys

import pytest
import torch
import torch.multiprocessing as mp
from helpers.ddp_worker import work
from helpers.plans import make_plans

from nnsam.networks import MobileSAMEncoder


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Per rank: the weights after two steps, and the reports."""
    assert torch.distributed.is_gloo_available()
    folder = tmp_path_factory.mktemp("ddp")
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            patch.setenv("GLOO_SOCKET_IFNAME", "lo")  # gloo would ask the network for this machine's address
        # This process is rank 0: a second child would spend as long on importing torch as the rest takes.
        child = mp.get_context("spawn").Process(target=work, args=(1, make_plans(features=2), str(folder)))
        child.start()
        work(0, make_plans(features=2), str(folder))
        child.join(60)
    assert child.exitcode == 0
    weights = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    return weights, [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_both_steps_run_also_the_one_with_empty_masks(outcome):
    for report in outcome[1]:
        assert report["sound"]["error"] == ""
        first, second = report["sound"]["parts"]
        assert first["curvature"] > 0
        assert second["curvature"] == 0
        assert min(first["level_set"], second["level_set"]) > 0


def test_the_processes_saw_different_data_and_agree_on_every_weight(outcome):
    (first, second), reports = outcome
    assert reports[0]["sound"]["parts"] != reports[1]["sound"]["parts"]
    assert reports[0]["sound"]["own"] != reports[1]["sound"]["own"]
    assert first.keys() == second.keys()
    assert [name for name, tensor in first.items() if not torch.equal(tensor, second[name])] == []
    assert all(torch.isfinite(tensor).all() for tensor in first.values())


def test_the_encoder_stayed_as_it_was(outcome):
    for name, tensor in MobileSAMEncoder.random(0).state_dict().items():
        assert torch.equal(outcome[0][0][f"sam.encoder.{name}"], tensor), name


def test_an_unused_parameter_would_have_been_noticed(outcome):
    for report in outcome[1]:
        assert "Expected to have finished reduction" in report["defective"]["error"]
        assert len(report["defective"]["parts"]) == 1
