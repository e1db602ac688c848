"""Where trainers take the encoder's weights from, and when they need none."""

import json

import pytest
import torch
from helpers.frozen import changed_tensors
from helpers.official_names import checkpoint_tensors
from helpers.toy import SHA, TRAINER, set_up

from nnsam.errors import NnsamWarning, WeightsError
from nnsam.networks import MobileSAMEncoder
from nnsam.networks.sam_branch import digest
from nnsam.training.trainer_names import trainer_class
from nnsam.weights import WeightsSource


def test_official_weights_are_recorded_beside_the_checkpoint(trained):
    record = json.loads((trained.folder / "sam_weights.json").read_text())
    assert record == {"kind": "official", "sha256": SHA, "sam_size": 32}
    log = "".join(path.read_text() for path in trained.folder.glob("training_log_*.txt"))
    assert f"SAM branch with official MobileSAM weights, SHA-256 {SHA}" in log


def test_a_fine_tuned_file_is_used_and_recorded_as_custom(make_trainer, monkeypatch, tmp_path):
    tensors = {key: value + 1 if value.is_floating_point() else value for key, value in checkpoint_tensors().items()}
    torch.save(tensors, tmp_path / "tuned.pt")
    monkeypatch.setenv("NNSAM_WEIGHTS", str(tmp_path / "tuned.pt"))
    with pytest.warns(NnsamWarning, match="fine-tuned"):
        trainer = make_trainer()
    trainer.initialize()
    assert trainer.network.sam.provenance.kind == "custom"
    assert len(changed_tensors(trainer)) == 298 - 27  # all but the counters of the 27 BatchNorm layers


def test_random_weights_on_request_are_warned_about_and_recorded(make_trainer, monkeypatch, tmp_path):
    monkeypatch.setenv("NNSAM_WEIGHTS", "random")
    seeded = "nnSAMTrainer_sam32_seed4711"  # its encoder is no other test's: each is warned about once in a process
    with pytest.warns(NnsamWarning, match="random"):
        trainer = make_trainer(seeded)
    trainer.initialize()
    expected = MobileSAMEncoder.random(seed=4711)
    assert trainer.network.sam.provenance.kind == "random"
    assert trainer.network.sam.provenance.sha256 == digest(expected)
    assert digest(trainer.network.sam.encoder) == digest(expected)
    trainer.save_checkpoint(str(tmp_path / "checkpoint.pth"))
    reloaded = make_trainer(seeded)
    with pytest.warns(NnsamWarning, match="RANDOM weights"):
        reloaded.load_checkpoint(str(tmp_path / "checkpoint.pth"))
    assert reloaded.network.sam.provenance == trainer.network.sam.provenance


def test_the_random_control_needs_no_weights_and_no_warning(make_trainer, no_weights, recwarn):
    trainers = [make_trainer(f"nnSAMRandomEncoderTrainer_sam32_seed{seed}") for seed in (1, 1, 2)]
    for trainer in trainers:
        trainer.initialize()
    first, same, other = (digest(trainer.network.sam.encoder) for trainer in trainers)
    assert first == same != other
    assert trainers[0].network.sam.provenance.kind == "random"
    trainers[0].network.load_state_dict(trainers[2].network.state_dict())
    assert not [warning for warning in recwarn if issubclass(warning.category, NnsamWarning)]


def test_the_control_without_sam_needs_no_weights(make_trainer, no_weights):
    trainer = make_trainer("nnSAMLevelSetOnlyTrainer")
    trainer.initialize()
    assert trainer.network.sam is None
    assert not any(key.startswith(("sam.", "fusion.")) for key in trainer.network.state_dict())


@pytest.mark.parametrize("purpose", ["continue", "validate"])
def test_going_on_from_a_checkpoint_needs_no_weights(toy, trained, make_trainer, no_weights, monkeypatch, purpose):
    # What --c and --val do.
    set_up(monkeypatch, toy, trained.results)
    trainer = make_trainer(continue_training=purpose == "continue")
    trainer.load_checkpoint(str(trained.checkpoint))
    assert changed_tensors(trainer) == []
    assert trainer.network.sam.provenance.sha256 == SHA


def test_a_finished_fold_of_another_trainer_does_not_spare_the_weights(toy, trained, make_trainer, monkeypatch):
    set_up(monkeypatch, toy, trained.results)
    asked = []
    monkeypatch.setattr("nnsam.weights.resolve", lambda: asked.append(1) or WeightsSource("random", None, None))
    make_trainer("nnSAMTrainer_sam64")
    make_trainer(TRAINER, 0)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("files", "continued", "expected"),
    [
        ([], True, False),
        (["checkpoint_latest.pth"], True, True),
        (["checkpoint_best.pth"], True, True),
        (["checkpoint_final.pth"], True, True),
        (["checkpoint_latest.pth", "checkpoint_best.pth"], False, False),
        (["checkpoint_final.pth"], False, True),
    ],
)
def test_which_checkpoints_a_run_may_go_on_from(results, toy, files, continued, expected):
    plans = json.loads((toy / "Dataset901_Toy" / "nnUNetPlans.json").read_text()) | {"continue_training": continued}
    folder = results / "Dataset901_Toy" / f"{TRAINER}__nnUNetPlans__2d" / "fold_0"
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).touch()
    assert trainer_class(TRAINER)._may_go_on(plans, "2d", 0) is expected
    assert trainer_class(TRAINER)._may_go_on(plans, "2d", 1) is False


def test_a_new_training_over_a_finished_one_loads_the_weights(toy, trained, make_trainer, official, monkeypatch):
    set_up(monkeypatch, toy, trained.results)
    trainer = make_trainer()
    trainer.initialize()
    assert changed_tensors(trainer) == []


def test_without_weights_nothing_is_written(make_trainer, results, monkeypatch):
    monkeypatch.setenv("NNSAM_OFFLINE", "1")
    with pytest.raises(WeightsError, match="there are no SAM weights"):
        make_trainer()
    assert not results.exists()


def test_a_file_of_another_model_is_refused_before_anything_is_written(make_trainer, results, monkeypatch, tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    monkeypatch.setenv("NNSAM_WEIGHTS", str(tmp_path / "other.pt"))
    with pytest.warns(NnsamWarning, match="not the official"), pytest.raises(WeightsError, match="is not a MobileSAM"):
        make_trainer()
    assert not results.exists()
