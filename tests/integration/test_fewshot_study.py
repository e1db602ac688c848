"""The few-shot laboratory from MM-WHS's official files to the report, by the script of the example."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import mmwhs_toy
from skimage.io import imread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "mmwhs_fewshot" / "run.sh"
SETTINGS = {"SIZES": "2", "SEEDS": "1", "VAL": "2", "TEST": "3", "SPLIT": "slice", "NNSAM_WEIGHTS": "random"}


def run(source: Path, study: Path, methods: str) -> str:
    arguments = [str(SCRIPT), str(source), str(study), "--device", "cpu", "--epochs", "1", "--iterations", "2"]
    # The script calls `nnsam`: this environment's, activated or not.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, **SETTINGS, "METHODS": methods, "PATH": path}
    process = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-2000:]
    return process.stdout


def test_from_the_official_files_to_the_papers_tables(tmp_path):
    pytest.importorskip("monai")
    for number in (1001, 1002):
        image, label = mmwhs_toy.heart(size=(70, 60, 40), spacing=(1.0, 1.2, 1.0))
        mmwhs_toy.write_case(tmp_path / "MM-WHS" / "ct_train", f"ct_train_{number}", image, label)
    run(tmp_path / "MM-WHS", tmp_path / "out", "unet autosam_sam32 nnUNetTrainer")
    report = (tmp_path / "out" / "report" / "report.md").read_text()
    for method in ("unet", "autosam_sam32", "nnUNetTrainer"):
        assert method in report
    for structure in ("LV", "RV", "LA", "RA", "Myo"):
        assert structure in report
    assert "random" in report.lower()  # autosam without SAM's weights
    for name in ("report.tex", "report.csv", "report.html"):
        assert (tmp_path / "out" / "report" / name).stat().st_size > 1000
    figures = sorted((tmp_path / "out" / "report" / "figures").glob("*.png"))
    assert figures
    assert all(imread(path).std() > 0 for path in figures)
    # Started again, it makes nothing twice.
    runs = sorted((tmp_path / "out" / "study" / "runs").glob("*/*/run.json"))
    assert len(runs) == 3
    before = [path.read_text() for path in runs]
    assert all(json.loads(text)["state"] == "done" for text in before)
    run(tmp_path / "MM-WHS", tmp_path / "out", "unet autosam_sam32 nnUNetTrainer")
    assert [path.read_text() for path in runs] == before
