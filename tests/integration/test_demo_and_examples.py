"""The demo, the benchmark and the examples, through the commands that the README names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from skimage.io import imread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))


def test_the_demo_makes_predictions_a_table_and_overlays(workplace, tmp_path):
    output = workplace.run(
        "nnsam", "demo", "--out", tmp_path / "demo", "--epochs", 1, "--iterations", 10, "--device", "cpu"
    )
    assert "RANDOM" in output
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["share_of_pixels_that_differ_after_export"] <= 1e-4
    assert set(summary["scores"]) >= {"LV", "RV", "LA", "RA", "Myo"}
    overlays = sorted((tmp_path / "demo" / "overlays").glob("*.png"))
    assert len(overlays) >= 4
    assert imread(overlays[0]).std() > 0


def test_the_demo_refuses_a_folder_that_is_not_empty(workplace, tmp_path):
    (tmp_path / "file").touch()
    assert "not an empty folder" in workplace.run("nnsam", "demo", "--out", tmp_path, expect=1)


def test_the_training_benchmark_prints_one_json_object(workplace):
    output = workplace.run("nnsam", "bench", "train", "--rounds", 1, "--size", 64, "--json")
    result = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert {"step_ratio_sam1024", "step_ratio_sam256", "levelset_share", "machine"} <= set(result)
    assert all(row["seconds"] > 0 for row in result["rows"])


def test_doctor_finds_the_installation_healthy(workplace):
    output = workplace.run("nnsam", "doctor", "--json", NNSAM_WEIGHTS="random")
    assert json.loads(output[output.index("{") : output.rindex("}") + 1])["healthy"] is True


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples_run(example):
    process = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip()
