"""`nnsam evaluate`: table, files, exit codes, nothing half-written."""

import csv
import json

import numpy as np
import pytest
from skimage import io

from nnsam.cli.main import main
from nnsam.data.phantom import write_phantom_dataset


@pytest.fixture
def dataset(tmp_path):
    return write_phantom_dataset(tmp_path / "Dataset001_P", 1, 3, size=(48, 48))


@pytest.fixture
def predictions(dataset, tmp_path):
    """The references moved by a pixel; the second lacks the left atrium."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    for index, path in enumerate(sorted((dataset / "labelsTs").iterdir())):
        labels = np.roll(io.imread(path), 1, axis=0)
        if index == 1:
            labels[labels == 3] = 0
        io.imsave(folder / path.name, labels, check_contrast=False)
    return folder


def evaluate(*words) -> int:
    return main(["evaluate", *map(str, words)])


def test_table_names_classes_units_and_policy(predictions, dataset, capsys):
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs") == 0
    output = capsys.readouterr().out
    for words in ("LV", "Myo", "all classes", "ASD (px)", "NSD (2 px)", "±", "--empty nan", "dataset.json"):
        assert words in output
    assert "Empty on one side: 1 " in output


def test_table_has_millimetres_and_the_other_policy(predictions, dataset, capsys):
    options = ("--spacing", "0.5,0.5", "--tolerance", "1", "--empty", "worst")
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", *options) == 0
    output = capsys.readouterr().out
    assert "HD95 (mm)" in output
    assert "NSD (1 mm)" in output
    assert "count with the image's diagonal" in output


def test_files_hold_every_score(predictions, dataset, tmp_path):
    files = ("--json", tmp_path / "new" / "a.json", "--csv", tmp_path / "a.csv")
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", *files) == 0
    content = json.loads((tmp_path / "new" / "a.json").read_text())
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(content["cases"]) == len(lines) == 15
    assert [row["scores"]["DSC"] for row in content["cases"]] == [float(line["DSC"]) for line in lines]
    missed = next(row for row in content["cases"] if row["label"] == "LA" and row["predicted_pixels"] == 0)
    assert missed["scores"] == {"DSC": 0.0, "ASD": None, "HD95": None, "NSD": 0.0}


def test_json_on_standard_output_is_alone_there(predictions, dataset, capsys):
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["profile"] == "standard"


def test_class_names_with_brackets_are_printed_as_they_are(predictions, dataset, tmp_path, capsys):
    labels = {"background": 0, "[bold]odd[/x]": 1, "rest": [2, 3, 4, 5]}
    (tmp_path / "odd.json").write_text(json.dumps({"labels": labels}))
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--labels", tmp_path / "odd.json") == 0
    assert "[bold]odd[/x]" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["missing", "extra", "broken", "shape", "labels", "csv"])
def test_failures_are_one_sentence_and_leave_no_file(predictions, dataset, tmp_path, capsys, damage):
    first = min(predictions.iterdir())
    extra = []
    if damage == "missing":
        first.unlink()
    elif damage == "extra":
        io.imsave(predictions / "other.png", np.zeros((48, 48), np.uint8), check_contrast=False)
    elif damage == "broken":
        first.write_bytes(first.read_bytes()[:50])
    elif damage == "shape":
        io.imsave(first, np.zeros((48, 50), np.uint8), check_contrast=False)
    elif damage == "labels":
        extra = ["--labels", tmp_path / "absent.json"]
    elif damage == "csv":
        extra = ["--csv", first / "below_a_file.csv"]
    before = sorted(tmp_path.rglob("*"))
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--json", tmp_path / "a.json", *extra) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith("nnsam evaluate: ")
    assert "Traceback" not in captured.err
    assert sorted(tmp_path.rglob("*")) == before


def test_interruption_keeps_the_old_file(predictions, dataset, tmp_path, monkeypatch):
    from nnsam.metrics import evaluation

    def interrupted(path):
        raise KeyboardInterrupt

    (tmp_path / "a.json").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(evaluation, "read_label_map", interrupted)
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--json", tmp_path / "a.json") == 130
    assert (tmp_path / "a.json").read_text() == "old"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words", [[], ["-p", "a"], ["-p", "a", "-r", "b", "--spacing", "1,x"], ["-p", "a", "-r", "b", "--spacing", "0,1"]]
)
def test_wrong_usage_is_code_2(words):
    with pytest.raises(SystemExit) as stop:
        evaluate(*words)
    assert stop.value.code == 2


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate("--help")
    assert stop.value.code == 0
    assert "nnsam evaluate -p" in capsys.readouterr().out
