"""`nnsam convert npz-to-nnunet`: files, next steps, exit codes."""

import json
import shutil

import numpy as np
import pytest

from nnsam.cli.main import main


@pytest.fixture
def source(tmp_path):
    for split in ("train", "val", "test"):
        (tmp_path / "source" / split).mkdir(parents=True)
        labels = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
        np.savez(tmp_path / "source" / split / f"{split}.npz", imgs=labels * 100, gts=labels)
    return tmp_path / "source"


def convert(*words) -> int:
    return main(["convert", "npz-to-nnunet", *map(str, words)])


def test_data_set_is_written_and_the_next_step_named(source, tmp_path, capsys):
    target = tmp_path / "Dataset042_Lungs"
    assert convert(source, "-o", target, "--labels", "1=left lung, 2=right lung", "--name", "Lungs") == 0
    output = capsys.readouterr().out
    assert "1 train, 1 val, 1 test cases as .png; classes left lung, right lung" in output
    assert "nnUNetv2_plan_and_preprocess -d 42 --verify_dataset_integrity" in output
    assert "splits_final.json" in output
    content = json.loads((target / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "left lung": 1, "right lung": 2}
    assert content["name"] == "Lungs"


def test_chosen_splits(source, tmp_path, capsys):
    assert convert(source, "-o", tmp_path / "Dataset042_Lungs", "--splits", "test") == 0
    assert "prediction and evaluation only" in capsys.readouterr().out
    assert not (tmp_path / "Dataset042_Lungs" / "imagesTr").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "lungs"], "DatasetXXX_Name"),
        (["-o", "Dataset042_Lungs", "--labels", "1=lung"], "--labels does not name"),
        (["-o", "Dataset042_Lungs", "--splits", "train,extra"], "Unknown split extra"),
    ],
)
def test_failures_are_one_sentence_and_leave_nothing(source, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert convert(source, *words) == 1
    error = capsys.readouterr().err
    assert error.startswith("nnsam convert: ")
    assert message in error
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("labels", ["lung", "1=", "x=lung", "1=a,1=b"])
def test_badly_written_labels_are_wrong_usage(source, tmp_path, labels):
    with pytest.raises(SystemExit) as stop:
        convert(source, "-o", tmp_path / "Dataset042_Lungs", "--labels", labels)
    assert stop.value.code == 2


def test_objects_of_several_sets_become_one_data_set(source, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(source, other)
    target = tmp_path / "Dataset201_Boxes"
    assert convert(source, other, "-o", target, "--objects", "--name", "All") == 0
    output = capsys.readouterr().out
    assert "     1  source\n     1  other\n" in output
    assert "2 training pictures of 2 patients." in output
    assert "Labels: object_1, object_2." in output
    assert "2 fold(s)" in output
    assert output.endswith("Next: nnsam plan-box -d 201\n")
    assert json.loads((target / "dataset.json").read_text())["name"] == "All"


def test_objects_with_other_splits_and_one_patient(source, tmp_path, capsys):
    assert convert(source, "-o", tmp_path / "Dataset201_Boxes", "--objects", "--splits", "train,test") == 0
    output = capsys.readouterr().out
    assert "1 training pictures of 1 patients, 1 test pictures." in output
    assert "train with fold all" in output
    words = ["--objects", "--splits", "train,val", "--patient-regex", "train|val"]
    assert convert(source, "-o", tmp_path / "Dataset202_Boxes", *words) == 0
    assert "2 training pictures of 2 patients" in capsys.readouterr().out
    assert convert(source, "-o", tmp_path / "Dataset203_Boxes", "--objects", "--splits", "test") == 0
    assert "prediction and evaluation only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["other"], "add --objects"),
        (["--patient-regex", "x"], "add --objects"),
        (["--objects", "--labels", "1=lung"], "leave --labels and --channel out"),
        (["--objects", "--channel", "CT"], "leave --labels and --channel out"),
        (["--objects", "--patient-regex", "("], "not a regular expression"),
        (["source", "--objects"], "would both be called source__train"),
    ],
)
def test_options_that_do_not_belong_together(source, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert convert(source, *words, "-o", "Dataset042_Lungs") == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("words", [["convert", "--help"], ["convert", "npz-to-nnunet", "--help"]])
def test_help_has_an_example(capsys, words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert "nnsam convert npz-to-nnunet data" in capsys.readouterr().out
