import json

import pytest
from helpers.model_folders import write_model_folder

from nnsam.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model_folder(tmp_path_factory.mktemp("export") / "model", folds=("0", "1"))


def test_the_report_is_printed(model, tmp_path, capsys):
    arguments = ["export", str(model), "-o", str(tmp_path / "bundle"), "--calibration", "4", "--folds", "1"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    for words in ("PyTorch f32", "OpenVINO f32", "1.0000", "default precision", "noise", "--images", "written to"):
        assert words in printed.out, words
    assert "fold 1: converting" in printed.err
    assert main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--json", "--precision", "f32"]) == 0
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert content["precision"]["auto"] == "f32"
    assert content["parity"]["max_difference"] <= content["parity"]["tolerance"]


def test_bad_input_is_one_sentence(tmp_path, capsys):
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "bundle")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_report_does_not_go_into_the_bundle(tmp_path, capsys):
    words = ["export", str(tmp_path / "model"), "-o", str(tmp_path / "bundle")]
    assert main([*words, "--json", str(tmp_path / "bundle" / "report.json")]) == 1
    assert "report.json lies in the bundle" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
