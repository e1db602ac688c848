"""`nnsam convert mmwhs`: options, messages, exit codes."""

import json

import pytest
from helpers.mmwhs_toy import heart, read, write_case, write_cfdnet

from nnsam.cli.main import main


@pytest.fixture
def source(tmp_path):
    write_case(tmp_path / "MM-WHS" / "ct_train", "ct_train_1001", *heart())
    return tmp_path / "MM-WHS"


def convert(*words) -> int:
    return main(["convert", "mmwhs", *map(str, words)])


def test_slices_of_the_paper_s_size(source, tmp_path, capsys):
    target = tmp_path / "Dataset301_Heart"
    assert convert(source, "-o", target, "--size", "240x220", "--slices-per-volume", 3, "--name", "Heart") == 0
    output = capsys.readouterr().out
    assert "3 train cases of 1 patients; LV=1, RV=2, LA=3, RA=4, Myo=5." in output
    assert "3 slices per volume, evenly spaced among those that hold at least 5 of the classes, 240x220" in output
    assert output.endswith("Next: nnsam fewshot prepare -d 301 -o study\n")
    assert json.loads((target / "dataset.json").read_text())["name"] == "Heart"
    assert read(next((target / "imagesTr").iterdir()))[0].shape == (220, 240)


def test_all_options(source, tmp_path, capsys):
    words = "--classes all --plane coronal --min-classes 1 --slices-per-volume 0 --size 64x48 --fit crop"
    assert convert(source, "-o", tmp_path / "Dataset301_Heart", *words.split(), "--trust-image-geometry") == 0
    output = capsys.readouterr().out
    assert "Note: No case holds AA, PA" in output
    assert "AA=6, PA=7" in output
    assert "coronal slices: all slices that hold at least 1 of the classes, 64x48 pixels (crop)" in output
    assert convert(source, "-o", tmp_path / "Dataset302_Heart", "--volumes") == 0
    assert "1 train cases of 1 patients" in capsys.readouterr().out
    assert convert(source, "-o", tmp_path / "Dataset303_Heart", "--size", "native") == 0


def test_cfdnet(tmp_path, capsys):
    write_cfdnet(tmp_path / "CT_withGT", [33, 34])
    assert convert(tmp_path / "CT_withGT", "-o", tmp_path / "Dataset302_CFDnet") == 0
    assert "4 train cases of 2 patients" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "hearts"], "DatasetXXX_Name"),
        (["-o", "Dataset301_Heart", "--modality", "mr"], "holds no mr training files"),
        (["-o", "Dataset301_Heart", "--volumes", "--plane", "axial"], "leave the options for slices out"),
        (["-o", "Dataset301_Heart", "--fit", "crop"], "add --size"),
        (["-o", "Dataset301_Heart", "--min-classes", "0"], "expected at least"),
    ],
)
def test_failures_are_one_sentence_and_leave_nothing(source, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert convert(source, *words) == 1
    error = capsys.readouterr().err
    assert error.startswith("nnsam convert: ")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("words", [["--size", "240"], ["--size", "240x220x3"], ["--plane", "long"], ["--fit", "fill"]])
def test_wrong_usage(source, tmp_path, words):
    with pytest.raises(SystemExit) as stop:
        convert(source, "-o", tmp_path / "Dataset301_Heart", *words)
    assert stop.value.code == 2


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        convert("--help")
    assert stop.value.code == 0
    assert "nnsam convert mmwhs CT_withGT.zip" in capsys.readouterr().out
