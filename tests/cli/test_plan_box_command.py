import json
from pathlib import Path

import pytest
from helpers.processes import write_fingerprint

from nnsam.cli.main import main
from nnsam.datasets.phantom import write_phantom_dataset


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    for name in ("raw", "preprocessed"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    return write_phantom_dataset(tmp_path / "raw" / "Dataset007_Hearts", n_train=3, n_test=0, size=(64, 64))


def with_fingerprint(raw: Path) -> Path:
    return write_fingerprint(raw, raw.parents[1] / "preprocessed")


def test_the_papers_network_patch_and_batch_are_the_default(raw, capsys):
    folder = with_fingerprint(raw)
    assert main(["plan-box", "-d", "7"]) == 0
    plans = json.loads((folder / "nnSAMBoxPlans.json").read_text())
    assert list(plans["configurations"]) == ["2d"]
    configuration = plans["configurations"]["2d"]
    assert configuration["patch_size"] == [224, 288]
    assert configuration["batch_size"] == 51
    assert configuration["normalization_schemes"] == ["ZScoreNormalization"]
    assert configuration["architecture"]["arch_kwargs"]["n_blocks_per_stage"] == [1, 3, 4, 6, 6, 6]
    assert configuration["nnsam_box"] == {"model": "full", "prompt": "binary"}
    assert (folder / "dataset.json").is_file()
    # Two image channels less than in the paper: 32 filters of 3 x 3 each, in the stem.
    assert f"{71_817_450 - 2 * 32 * 9:,} parameters" in capsys.readouterr().out


def test_options_and_json(raw, capsys):
    with_fingerprint(raw)
    options = ["--model", "small", "--prompt", "ellipse", "--batch-size", "3", "--patch", "64x96", "--name", "MyPlans"]
    assert main(["plan-box", "-d", "Dataset007_Hearts", "--json", *options]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert Path(planned["file"]).name == "MyPlans.json"
    assert (planned["patch_size"], planned["batch_size"]) == ([64, 96], 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-d", "8"], "it has Dataset007_Hearts: give one that is there, or make it with `nnsam convert`"),
        (["-d", "Dataset008_Nothing"], "there is no data set 'Dataset008_Nothing' in"),
        (["-d", "7", "--patch", "32x64"], "at least 64"),
        (["-d", "7", "--batch-size", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_sentence(raw, capsys, arguments, says):
    with_fingerprint(raw)
    assert main(["plan-box", *arguments]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_a_patch_that_does_not_fit_is_refused_before_the_fingerprint(raw, capsys):
    before = sorted(raw.parents[1].rglob("*"))
    assert main(["plan-box", "-d", "7", "--patch", "100x100"]) == 1
    assert "multiples of 32" in capsys.readouterr().err
    assert sorted(raw.parents[1].rglob("*")) == before


def test_folders_that_are_not_set_are_named(raw, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    assert main(["plan-box", "-d", "7"]) == 1
    assert "nnUNet_raw is not set, and nnU-Net keeps its data there; export it first" in capsys.readouterr().err


def test_other_numbers_of_channels_are_refused(raw, capsys):
    path = raw / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"channel_names": {"0": "T1", "1": "T2"}}))
    assert main(["plan-box", "-d", "7"]) == 1
    assert "2 image channels" in capsys.readouterr().err
