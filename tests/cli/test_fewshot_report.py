"""`nnsam fewshot report` as a user calls it."""

import json

import pytest
from helpers.synthetic_results import make_study

from nnsam.cli.main import main


@pytest.fixture
def study(tmp_path):
    make_study(tmp_path / "study", methods={"nnUNetTrainer": 0.7, "nnSAMTrainer": 0.8}, skip={("nnSAMTrainer", 8, 2)})
    return tmp_path / "study"


def test_the_report_is_written_and_its_table_printed(study, capsys):
    assert main(["fewshot", "report", str(study), "--metrics", "dice"]) == 0
    text = capsys.readouterr().out
    assert "Dice (%)" in text
    assert "nnSAMTrainer †" in text
    assert "1 of 12 runs are missing: nnSAMTrainer, size 8, seed 2: not started" in text
    assert "random weights" in text
    assert str(study / "report" / "report.html") in text
    assert (study / "report" / "report.html").is_file()


def test_a_complete_study_has_nothing_to_complain_of(tmp_path, capsys):
    make_study(tmp_path, methods={"unet": 0.5}, predictions=False)
    assert main(["fewshot", "report", str(tmp_path), "--metrics", "dice"]) == 0
    text = capsys.readouterr().out
    assert "missing" not in text
    assert "random" not in text


def test_json_goes_to_standard_output(study, tmp_path, capsys):
    words = [
        "fewshot",
        "report",
        str(study),
        "-o",
        str(tmp_path / "out"),
        "--metrics",
        "asd",
        "--json",
        "--overlays",
        "0",
    ]
    assert main(words) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["folder"] == str(tmp_path / "out")
    assert content["reference"] == "nnUNetTrainer"
    assert content["runs"] == 11
    assert len(content["missing_runs"]) == 1
    assert len(content["overall"]) == 4
    assert {row["unit"] for row in content["overall"]} == {"mm"}
    assert all(row["low"] <= row["mean"] <= row["high"] for row in content["overall"])


def test_the_legacy_profile_is_printed_in_its_own_unit(study, capsys):
    options = ["--profile", "legacy", "--metrics", "asd", "--overlays", "0"]
    assert main(["fewshot", "report", str(study), *options]) == 0
    text = capsys.readouterr().out
    assert "ASD (px)" in text
    assert "mm" not in text


def test_an_error_is_one_sentence(tmp_path, capsys):
    assert main(["fewshot", "report", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"nnsam fewshot: {tmp_path} holds no protocol.json")
    assert captured.err.count("\n") == 1


def test_an_unknown_metric_is_wrong_usage(tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["fewshot", "report", str(tmp_path), "--metrics", "iou"])
    assert stop.value.code == 2
