"""Scores of label maps against closed forms, and edits found by their hashes."""

import json

import numpy as np
import pytest
from PIL import Image

from nnsam.errors import InputError
from nnsam.fewshot.runs.scoring import check_results, hash_results, score

LABELS = {"background": 0, "disc": 1, "ring": 2}


def square(value=1, top=4, size=8):
    image = np.zeros((24, 24), np.uint8)
    image[top : top + size, 4 : 4 + size] = value
    return image


@pytest.fixture
def run(tmp_path):
    """Three cases: the same square, one moved down by 2, and one that was missed."""
    folder, references = tmp_path / "run", tmp_path / "labelsTs"
    (folder / "predictions").mkdir(parents=True)
    references.mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".png"}))
    for name, predicted in (("a", square()), ("b", square(top=6)), ("c", square(value=0))):
        Image.fromarray(predicted).save(folder / "predictions" / f"{name}.png")
        Image.fromarray(square()).save(references / f"{name}.png")
    score(folder, "predictions", "scores.json", references, tmp_path / "dataset.json")
    return folder


def test_closed_forms(run):
    content = json.loads((run / "scores.json").read_text())
    cases = content["cases"]
    assert cases["a"]["disc"] == {
        "dice": 1.0, "asd": 0.0, "nsd": 1.0, "hd95": 0.0, "empty_reference": False, "empty_prediction": False,
    }  # fmt: skip
    assert cases["b"]["disc"]["dice"] == pytest.approx(6 / 8)
    assert cases["b"]["disc"]["hd95"] == pytest.approx(2.0)
    assert cases["c"]["disc"] == {
        "dice": 0.0, "asd": None, "nsd": 0.0, "hd95": None, "empty_reference": False, "empty_prediction": True,
    }  # fmt: skip
    assert cases["a"]["ring"]["dice"] is None
    assert cases["a"]["ring"]["empty_reference"]
    assert content["unit"] == "px"
    assert content["profile"] == "standard"
    assert "empty on both sides has no score" in content["policy"]


def test_report_reads_the_scores(run):
    from nnsam.fewshot.report.results import read_run_scores

    scores = read_run_scores(run / "scores.json", "standard", ["a", "b", "c"], ["disc", "ring"])
    assert scores.values[:, 0, 0] == pytest.approx([1, 0.75, 0])
    assert scores.empty[2, 0].tolist() == [False, True]


def test_unchanged_results_pass(run):
    recorded = hash_results(run)
    assert recorded.keys() == {"predictions", "scores.json"}
    check_results(run, recorded)
    check_results(run, {})


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_changed_label_maps_are_named(run, change):
    recorded = hash_results(run)
    path = run / "predictions" / ("d.png" if change == "add" else "b.png")
    if change == "remove":
        path.unlink()
    else:
        Image.fromarray(square(top=8)).save(path)
    with pytest.raises(InputError, match=rf"predictions was edited after the run \(case {path.stem}\)"):
        check_results(run, recorded)


def test_changed_scores_are_found(run):
    recorded = hash_results(run)
    path = run / "scores.json"
    path.write_text(path.read_text().replace("0.75", "0.95"))
    with pytest.raises(InputError, match=r"scores\.json was edited"):
        check_results(run, recorded)


def test_missing_prediction_is_a_sentence_and_leaves_no_file(run, tmp_path):
    (run / "scores.json").unlink()
    (run / "predictions" / "b.png").unlink()
    with pytest.raises(InputError, match="b"):
        score(run, "predictions", "scores.json", tmp_path / "labelsTs", tmp_path / "dataset.json")
    assert not (run / "scores.json").exists()
