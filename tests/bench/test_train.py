"""Training steps beside nnU-Net's, on stand-ins for trainers and data."""

import pytest

from nnsam.bench import measuring, train


def test_steps_are_compared_with_stock_nnunet_round_by_round(monkeypatch):
    now, calls = [0.0], []
    seconds = {"nnUNetTrainer": 2.0, "nnSAMTrainer": 4.0, "nnSAMTrainer_sam256": 3.0, "nnSAMLevelSetOnlyTrainer": 1.0}

    def step_of(trainer, plans, device):
        def step(_):
            calls.append(trainer)
            now[0] += seconds[trainer]

        def targets(_):
            now[0] += 0.5

        return step, targets

    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(train, "_step", step_of)
    plans = {"configurations": {"2d": {"architecture": {"arch_kwargs": {"n_stages": 7}}}}}
    monkeypatch.setattr(train, "_prepare", lambda folder, size: plans)
    monkeypatch.setattr(train, "describe_machine", dict)
    result = train.bench_training(rounds=3, warmup=1)
    assert sorted(calls) == sorted(4 * list(seconds))
    assert [row["name"] for row in result["rows"]] == list(train.TRAINERS)
    assert result["rows"][1] == {
        "name": "nnSAM, encoder at 1024",
        "trainer": "nnSAMTrainer",
        "seconds": 4.0,
        "ratio": 2.0,
        "ratio_low": 2.0,
        "ratio_high": 2.0,
    }
    assert (result["step_ratio_sam1024"], result["step_ratio_sam256"]) == (2.0, 1.5)
    assert result["levelset_seconds"] == 0.5
    assert result["device"] == "cpu"
    assert result["levelset_share"] == pytest.approx(0.125)
    assert result["stages"] == 7
    assert result["machine"] == {}
