"""Real chest X-rays through the commands of the README: convert, plan, train, predict, evaluate; a small version."""

import json

import pytest

from nnsam.datasets.challenge import convert_npz_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TRAINER = "nnSAMTrainer_1epochs_3iters_sam64_seed0"


def test_chest_x_rays_go_all_the_way(shared, workplace, tmp_path):
    raw = workplace.path("raw", "Dataset011_Lungs")
    convert_npz_dataset(shared / "data" / "cxr_shenzhen", raw, label_names={1: "lung"})
    workplace.run("nnUNetv2_plan_and_preprocess", "-d", 11, "-c", "2d", "-np", 1, "--verify_dataset_integrity")
    assert "RANDOM" in workplace.train(TRAINER, dataset=11, NNSAM_WEIGHTS="random")
    workplace.predict(TRAINER, raw / "imagesTs", tmp_path / "predictions", "--disable_tta", dataset=11)
    workplace.run(
        "nnsam", "evaluate", "-p", tmp_path / "predictions", "-r", raw / "labelsTs", "--json", tmp_path / "s.json"
    )
    assert len(json.loads((tmp_path / "s.json").read_text())["cases"]) == 16
