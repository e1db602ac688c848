"""One run with a stand-in for nnU-Net: what is recorded, and what is not done twice."""

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_study import FakeStudy
from PIL import Image

from nnsam.errors import InputError
from nnsam.fewshot.runs.execution import execute_run, is_running
from nnsam.fewshot.runs.nnunet_model import NnunetModel
from nnsam.fewshot.runs.options import Budget, StudyRunOptions
from nnsam.fewshot.runs.state import RunKey
from nnsam.training.loss_history import LossHistory

KEY = RunKey("nnUNetTrainer", 2, 0)
OPTIONS = StudyRunOptions(Budget(1, 2), threads=1)


@pytest.fixture
def study(tmp_path, monkeypatch):
    return FakeStudy(tmp_path, monkeypatch)


def test_run_is_recorded(study):
    assert execute_run(study.experiment, KEY, OPTIONS) == "done"
    record = study.record()
    assert record["state"] == "done"
    assert record["attempts"] == 1
    assert record["key"] == {"method": "nnUNetTrainer", "size": 2, "seed": 0}
    assert record["budget"] == {"epochs": 1, "iterations": 2}
    assert record["trainer"] == "nnSAMBaselineTrainer_1epochs_2iters_seed0"
    assert set(record["seconds"]) == {"prepare", "train", "predict", "score"}
    assert record["versions"]["torch"]
    assert record["machine"]["threads"] == 1
    assert str(study.experiment) not in json.dumps(record)
    assert study.journal("train") == [
        line for line in study.journal("train") if "Dataset100_n2s0 nnSAMBaselineTrainer_1epochs_2iters_seed0" in line
    ]
    # Label maps and nothing else; the stand-in copies the references.
    protocol = json.loads((study.experiment / "protocol.json").read_text())
    names = sorted(path.name for path in (study.folder() / "predictions").iterdir())
    assert names == sorted(f"{case}.png" for case in protocol["test"])
    assert not list(study.folder().glob(".*"))
    scores = json.loads((study.folder() / "scores.json").read_text())
    assert scores["unit"] == "px"
    assert sorted(scores["cases"]) == sorted(protocol["test"])
    found = [entry["dice"] for case in scores["cases"].values() for entry in case.values()]
    assert set(found) <= {1.0, None}
    assert 1.0 in found


@pytest.mark.parametrize(("share", "warned"), [(1.0, True), (0.3, False)])
def test_a_level_set_head_that_learnt_nothing_is_recorded(study, monkeypatch, share, warned):
    train = NnunetModel.train

    def train_badly(model, options):
        train(model, options)
        LossHistory(model.folder / "fold_0").add(0, {"level_set_share": share}, {})

    monkeypatch.setattr(NnunetModel, "train", train_badly)
    for _ in range(2):
        assert execute_run(study.experiment, KEY, OPTIONS) == "done"
    note = study.record()["note"]
    assert note.endswith("; WARNING: its level-set head learnt nothing") == warned
    assert note.count("WARNING") == warned


def test_nnunets_validation_is_left_out(study, monkeypatch):
    monkeypatch.setenv("FAKE_VALIDATION", "50")
    execute_run(study.experiment, KEY, OPTIONS)
    assert study.record()["seconds"]["train"] < 40
    assert not study.journal("validation")


def test_time_is_recorded_while_a_step_runs(study, monkeypatch):
    monkeypatch.setattr("nnsam.fewshot.runs.execution._RECORD_SECONDS", 0.02)
    monkeypatch.setattr("nnsam.fewshot.runs.nnunet_model.run_nnunet", lambda *_, **__: seen.append(read_later(study)))
    seen = []
    assert execute_run(study.experiment, KEY, OPTIONS) == "failed"  # no checkpoint
    assert seen[0] > 0


def read_later(study):
    """Seconds of the training in the record, half a second after it began."""
    time.sleep(0.5)
    return study.record()["seconds"]["train"]


def test_nnunets_validation_can_be_kept(study, monkeypatch):
    monkeypatch.setenv("FAKE_VALIDATION", "0")
    execute_run(study.experiment, KEY, replace(OPTIONS, nnunet_validation=True))
    assert study.journal("validation")


def test_done_run_is_left_alone(study):
    execute_run(study.experiment, KEY, OPTIONS)
    before, journal = study.record(), study.journal()
    assert execute_run(study.experiment, KEY, OPTIONS) == "done"
    assert study.record() == before
    assert study.journal() == journal


def test_validation_scores_are_added_without_training(study):
    execute_run(study.experiment, KEY, OPTIONS)
    assert execute_run(study.experiment, KEY, replace(OPTIONS, score_validation=True)) == "done"
    assert len(study.journal("train")) == 1
    scores = json.loads((study.folder() / "scores_validation.json").read_text())
    protocol = json.loads((study.experiment / "protocol.json").read_text())
    assert sorted(scores["cases"]) == sorted(protocol["validation"])
    assert not list(study.folder().glob(".*"))


def test_missing_scores_are_made_again(study):
    execute_run(study.experiment, KEY, OPTIONS)
    before = (study.folder() / "scores.json").read_bytes()
    (study.folder() / "scores.json").unlink()
    assert execute_run(study.experiment, KEY, OPTIONS) == "done"
    assert (study.folder() / "scores.json").read_bytes() == before
    assert len(study.journal("train")) == len(study.journal("predict")) == 1


def test_failure_is_recorded_and_retried_on_request_only(study, monkeypatch):
    monkeypatch.setenv("FAKE_CRASH", "Baseline")
    assert execute_run(study.experiment, KEY, OPTIONS) == "failed"
    assert "the network has exploded" in study.record()["error"]
    assert "the network has exploded" in (study.folder() / "log.txt").read_text()
    monkeypatch.setenv("FAKE_CRASH", "-none-")
    assert execute_run(study.experiment, KEY, OPTIONS) == "failed"
    assert len(study.journal("train")) == 1
    assert execute_run(study.experiment, KEY, replace(OPTIONS, retry_failed=True)) == "done"
    assert study.record()["attempts"] == 2
    assert study.record()["error"] == ""


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (replace(OPTIONS, budget=Budget(3, 2)), "epochs 1"),
        (replace(OPTIONS, budget=Budget(1, 9)), "iterations 2"),
        (replace(OPTIONS, tta=True), "tta off"),
    ],
)
def test_other_options_are_refused(study, options, difference):
    execute_run(study.experiment, KEY, OPTIONS)
    with pytest.raises(InputError, match=difference):
        execute_run(study.experiment, KEY, options)


def test_edited_record_is_refused(study):
    execute_run(study.experiment, KEY, OPTIONS)
    path = study.folder() / "run.json"
    path.write_text(path.read_text().replace('"attempts": 1', '"attempts": 2'))
    with pytest.raises(InputError, match="was edited"):
        execute_run(study.experiment, KEY, OPTIONS)


def test_edited_label_map_is_refused_by_name(study):
    execute_run(study.experiment, KEY, OPTIONS)
    path = sorted((study.folder() / "predictions").iterdir())[1]
    Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    with pytest.raises(InputError, match=f"predictions was edited after the run .case {path.stem}"):
        execute_run(study.experiment, KEY, OPTIONS)


def test_edited_scores_are_refused(study):
    execute_run(study.experiment, KEY, OPTIONS)
    path = study.folder() / "scores.json"
    path.write_text(path.read_text().replace("1.0", "0.9", 1))
    with pytest.raises(InputError, match=r"scores\.json was edited"):
        execute_run(study.experiment, KEY, OPTIONS)


def test_edited_test_case_fails_the_run(study):
    path = next((study.experiment / "test" / "labelsTs").iterdir())
    content = np.array(Image.open(path))
    path.unlink()  # a hard link
    Image.fromarray(np.roll(content, 3)).save(path)
    assert execute_run(study.experiment, KEY, OPTIONS) == "failed"
    assert path.stem in study.record()["error"]


def test_training_without_a_record_is_not_taken_over(study):
    execute_run(study.experiment, KEY, OPTIONS)
    shutil.rmtree(study.folder())
    with pytest.raises(InputError, match=r"of which there is no run.json"):
        execute_run(study.experiment, KEY, OPTIONS)
    assert not study.folder().exists()


def test_broken_checkpoint_is_not_continued_from(study, monkeypatch):
    monkeypatch.setenv("FAKE_CRASH", "Baseline")
    execute_run(study.experiment, KEY, OPTIONS)
    fold = next((study.experiment / "nnunet" / "nnUNet_results").glob("*/*/fold_0"))
    (fold / "checkpoint_latest.pth").write_bytes(b"PK\x03\x04 killed while it was written")
    monkeypatch.setenv("FAKE_CRASH", "-none-")
    assert execute_run(study.experiment, KEY, replace(OPTIONS, retry_failed=True)) == "done"
    assert "from 0" in study.journal("train")[-1]


def test_run_of_another_process_is_busy(study):
    from filelock import FileLock

    KEY.lock(study.experiment).parent.mkdir(parents=True)
    assert not is_running(study.experiment, KEY)
    with FileLock(str(KEY.lock(study.experiment))):
        assert execute_run(study.experiment, KEY, OPTIONS) == "busy"
        assert is_running(study.experiment, KEY)
    assert not is_running(study.experiment, KEY)
    assert not (study.folder() / "run.json").exists()
