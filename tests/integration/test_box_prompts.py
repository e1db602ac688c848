"""Box prompts on real images through the commands of the README: convert, plan, train, predict, segment, evaluate."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
TRAINER = "nnSAMBoxFastTrainer_1epochs_5iters_seed0"
SETS = ("cxr_shenzhen", "derm_isic2018_512", "mr3d_acdc")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "box_prompts" / "train_small_model.py"


@pytest.fixture(scope="module")
def boxes(shared, new_empty_workplace):
    """Three real sets converted, planned and trained upon for five iterations; the workplace and the model's folder."""
    workplace = new_empty_workplace()
    raw = workplace.path("raw", "Dataset201_Boxes")
    workplace.run(
        "nnsam", "convert", "npz-to-nnunet", *(shared / "data" / name for name in SETS), "-o", raw, "--objects"
    )
    planned = workplace.run("nnsam", "plan-box", "-d", 201, "--model", "small", "--prompt", "ellipse")
    assert "2,474,952 parameters" in planned
    workplace.run("nnUNetv2_preprocess", "-d", 201, "-plans_name", "nnSAMBoxPlans", "-c", "2d", "-np", 1)
    workplace.train(TRAINER, "-p", "nnSAMBoxPlans", dataset=201, fold=0)
    return workplace, workplace.path("results", raw.name, f"{TRAINER}__nnSAMBoxPlans__2d")


def test_validation_writes_scores_of_seeded_boxes(boxes):
    summary = json.loads((boxes[1] / "fold_0" / "validation" / "summary.json").read_text())
    assert summary["metric_per_case"]
    assert 0 < summary["foreground_mean"]["Dice"] <= 1


def test_plain_prediction_works_without_a_prompt(boxes, tmp_path):
    workplace, _ = boxes
    images = tmp_path / "images"
    images.mkdir()
    source = sorted(workplace.path("raw", "Dataset201_Boxes", "imagesTr").glob("cxr*"))[0]
    (images / source.name).write_bytes(source.read_bytes())
    options = ("-p", "nnSAMBoxPlans", "--disable_tta")
    workplace.predict(TRAINER, images, tmp_path / "out", *options, dataset=201, folds=(0,))
    prediction = imread(next((tmp_path / "out").glob("*.png")))
    assert prediction.shape == imread(source).shape[:2]
    assert set(np.unique(prediction)) <= {0, 1}


@pytest.mark.parametrize("name", SETS)
def test_npz_cases_are_segmented_and_scored_by_the_challenges_rules(boxes, shared, tmp_path, name):
    workplace, model = boxes
    cases = shared / "data" / name / "test"
    workplace.run("nnsam", "segment", model, "-i", cases, "-o", tmp_path / "segs", "--overlay")
    scores = tmp_path / "scores.json"
    workplace.run("nnsam", "evaluate", "-p", tmp_path / "segs", "-r", cases, "--profile", "challenge", "--json", scores)
    scored = {row["case"] for row in json.loads(scores.read_text())["cases"]}
    assert scored == {path.stem for path in cases.glob("*.npz")}
    assert sorted((tmp_path / "segs").rglob("*.png"))


def test_the_example_trains_and_scores(shared, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "cxr_shenzhen").symlink_to(shared / "data" / "cxr_shenzhen")
    options = ("--workspace", tmp_path / "work", "--epochs", 1, "--iterations", 2)
    process = subprocess.run(
        [sys.executable, str(EXAMPLE), str(data), *map(str, options)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, (process.stdout + process.stderr)[-3000:]
    assert "cxr_shenzhen" in process.stdout
