"""`nnsam evaluate`: table, files, exit codes, nothing half-written."""

import csv
import json
import re

import numpy as np
import pytest
from skimage import io

from nnsam.cli.main import main
from nnsam.datasets.phantom import write_phantom_dataset
from nnsam.errors import InputError


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


def test_the_legacy_profile_tells_its_own_rules(predictions, dataset, capsys):
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--profile", "legacy") == 0
    output = capsys.readouterr().out
    assert "total miss has Dice 0 and ASD 0" in output
    assert "NSD" not in output


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


def test_csv_on_standard_output_is_what_the_file_holds(predictions, dataset, tmp_path, capsys):
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--csv", tmp_path / "a.csv") == 0
    capsys.readouterr()
    for words in (["--csv"], ["--csv", "-"]):
        assert evaluate("-p", predictions, "-r", dataset / "labelsTs", *words) == 0
        assert capsys.readouterr().out == (tmp_path / "a.csv").read_text()
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--csv", "--json") == 1
    assert "would both be printed" in capsys.readouterr().err


def test_class_names_with_brackets_are_printed_as_they_are(predictions, dataset, tmp_path, capsys):
    labels = {"background": 0, "[bold]odd[/x]": 1, "rest": [2, 3, 4, 5]}
    (tmp_path / "odd.json").write_text(json.dumps({"labels": labels}))
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--labels", tmp_path / "odd.json") == 0
    assert "[bold]odd[/x]" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["missing", "extra", "labels", "csv"])
def test_failures_are_one_sentence_and_leave_no_file(predictions, dataset, tmp_path, capsys, damage):
    first = min(predictions.iterdir())
    extra = []
    if damage == "missing":
        first.unlink()
    elif damage == "extra":
        io.imsave(predictions / "other.png", np.zeros((48, 48), np.uint8), check_contrast=False)
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


@pytest.mark.parametrize("damage", ["broken", "shape", "memory"])
def test_a_case_that_fails_is_told_and_the_others_are_scored(
    predictions, dataset, tmp_path, capsys, monkeypatch, damage
):
    from nnsam.metrics import evaluation

    first, real = min(predictions.iterdir()), evaluation.read_labels
    if damage == "broken":
        first.write_bytes(first.read_bytes()[:50])
    elif damage == "shape":
        io.imsave(first, np.zeros((48, 50), np.uint8), check_contrast=False)
    else:

        def greedy(path, key):
            if path == first:
                raise MemoryError("Unable to allocate 9 TiB")
            return real(path, key)

        monkeypatch.setattr(evaluation, "read_labels", greedy)
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--json", tmp_path / "a.json") == 1
    captured = capsys.readouterr()
    assert "all classes" in captured.out
    lines = captured.err.strip().splitlines()
    assert len(lines) == 2
    assert re.match(r"nnsam evaluate: 1 of \d+ cases failed, and are not in the scores:", lines[0])
    assert first.stem in lines[1]
    content = json.loads((tmp_path / "a.json").read_text())
    assert list(content["failures"]) == [first.stem]
    assert first.stem not in {row["case"] for row in content["cases"]}
    with pytest.raises((InputError, MemoryError)):
        evaluation.evaluate(predictions, dataset / "labelsTs")


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_no_file_of_others_is_replaced(predictions, dataset, tmp_path, capsys, option):
    words = ("-p", predictions, "-r", dataset / "labelsTs")
    reference = min((dataset / "labelsTs").iterdir())
    before = reference.read_bytes()
    for path in (reference, dataset / "dataset.json"):
        assert evaluate(*words, "--labels", dataset / "dataset.json", option, path, "--overwrite") == 1
        assert "is an input and would be overwritten" in capsys.readouterr().err
    assert reference.read_bytes() == before
    (tmp_path / "a.txt").write_text("precious")
    assert evaluate(*words, option, tmp_path / "a.txt") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "a.txt").read_text() == "precious"
    assert evaluate(*words, option, tmp_path / "a.txt", "--overwrite") == 0
    assert evaluate(*words, option, tmp_path / "a.txt") == 0  # its own


def test_interruption_keeps_the_old_file(predictions, dataset, tmp_path, monkeypatch):
    from nnsam.metrics import evaluation

    def interrupted(path, key):
        raise KeyboardInterrupt

    (tmp_path / "a.json").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(evaluation, "read_labels", interrupted)
    assert evaluate("-p", predictions, "-r", dataset / "labelsTs", "--json", tmp_path / "a.json", "--overwrite") == 130
    assert (tmp_path / "a.json").read_text() == "old"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words", [[], ["-p", "a"], ["-p", "a", "-r", "b", "--spacing", "1,x"], ["-p", "a", "-r", "b", "--spacing", "0,1"]]
)
def test_wrong_usage_is_code_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate(*words)
    assert stop.value.code == 2
    if "--spacing" in words:
        assert f"expected positive numbers; found '{words[-1]}'" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate("--help")
    assert stop.value.code == 0
    assert "nnsam evaluate -p" in capsys.readouterr().out


@pytest.fixture
def npz_folders(tmp_path):
    """Two cases of the challenge's layout, with five objects altogether, of which one is missed."""
    labels = np.kron(np.array([[1, 0, 2], [0, 0, 3]], np.uint8), np.ones((8, 8), np.uint8))
    for name in ("segmented", "truth"):
        (tmp_path / name).mkdir()
    np.savez_compressed(tmp_path / "truth" / "a.npz", gts=np.minimum(labels, 1), inst=labels)
    np.savez_compressed(tmp_path / "segmented" / "a.npz", segs=np.where(labels == 3, 0, labels))
    np.savez_compressed(tmp_path / "truth" / "b.npz", gts=np.minimum(labels, 2), box_labels=np.array([1, 2]))
    np.savez_compressed(tmp_path / "segmented" / "b.npz", segs=np.minimum(labels, 2))
    return tmp_path / "segmented", tmp_path / "truth"


@pytest.mark.parametrize(("profile", "columns"), [("standard", "HD95 (px)"), ("challenge", "NSD (2 px)")])
def test_objects_of_npz_files_make_one_row_in_the_table_and_all_rows_in_the_csv(
    npz_folders, tmp_path, capsys, profile, columns
):
    files = ("--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    assert evaluate("-p", npz_folders[0], "-r", npz_folders[1], "--profile", profile, *files) == 0
    output = capsys.readouterr().out
    assert columns in output
    assert "all objects" in output
    assert "0.833 ± 0.236" in output  # (2/3 + 1) / 2
    assert "label_1" not in output
    with (tmp_path / "a.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 5
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["case_scores"]["a"]["DSC"] == pytest.approx(2 / 3, abs=1e-4)
    assert content["case_scores"]["b"]["DSC"] == 1


def test_the_challenge_explains_itself_and_refuses_other_rules(npz_folders, capsys):
    words = ("-p", npz_folders[0], "-r", npz_folders[1], "--profile", "challenge")
    assert evaluate(*words) == 0
    output = capsys.readouterr().out
    assert "Cases without a DSC, since a label is on neither side: 0" in output
    assert "HD95" not in output
    assert evaluate(*words, "--tolerance", "1") == 1
    assert "leave out --tolerance" in capsys.readouterr().err
    assert evaluate(*words, "--reference-key", "inst") == 1
    assert "b.npz lacks the key inst" in capsys.readouterr().err


def test_empty_cases_can_be_written(tmp_path):
    for name, key in (("p", "segs"), ("r", "gts")):
        (tmp_path / name).mkdir()
        np.savez_compressed(tmp_path / name / "a.npz", **{key: np.zeros((5, 5), np.uint8)})
    for profile in ("standard", "challenge"):
        files = ("--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
        assert evaluate("-p", tmp_path / "p", "-r", tmp_path / "r", "--profile", profile, *files) == 0
        assert len((tmp_path / "a.csv").read_text().splitlines()) == 1
        assert json.loads((tmp_path / "a.json").read_text())["case_scores"]["a"]["DSC"] is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("pickled", "pickled Python objects"),
        ("key", "lacks the key segs"),
        ("shape", "differ in shape"),
        ("none", "holds no label maps"),
        ("names", "lacks 1 of 2 predictions: a."),
        ("cut", "cut off"),
    ],
)
@pytest.mark.parametrize("profile", ["standard", "challenge"])
def test_bad_npz_files_are_one_sentence(npz_folders, capsys, damage, words, profile):
    first = npz_folders[0] / "a.npz"
    if damage == "pickled":
        np.savez(first, segs=np.array([{"a": 1}], dtype=object))
    elif damage == "key":
        np.savez(first, gts=np.zeros((16, 24), np.uint8))
    elif damage == "shape":
        np.savez(first, segs=np.zeros((24, 16), np.uint8))
    elif damage == "none":
        for path in npz_folders[0].iterdir():
            path.unlink()
    elif damage == "names":
        first.rename(npz_folders[0] / "c.npz")
    elif damage == "cut":
        first.write_bytes(first.read_bytes()[:100])
    assert evaluate("-p", npz_folders[0], "-r", npz_folders[1], "--profile", profile) == 1
    captured = capsys.readouterr()
    is_of_one_case = damage in ("pickled", "key", "shape", "cut")
    assert (captured.out == "") is not is_of_one_case
    assert words in captured.err
    assert len(captured.err.strip().splitlines()) == 1 + is_of_one_case


def test_what_is_told_of_a_file_is_told_once_whatever_pythonwarnings_says(tmp_path, capsys, monkeypatch):
    import nibabel

    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    sheared = np.diag([1.0, 1, 1, 1])
    sheared[0, 1] = 0.3
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:3, 1:4, 2:5] = 1
    for name in ("p", "r"):
        nibabel.save(nibabel.Nifti1Image(labels, sheared), tmp_path / f"{name}.nii.gz")
    assert main(["evaluate", "-p", str(tmp_path / "p.nii.gz"), "-r", str(tmp_path / "r.nii.gz")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "not perpendicular" in line]
    assert len(lines) == len(set(lines)) == 2
