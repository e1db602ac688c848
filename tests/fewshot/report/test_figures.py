"""Which cases are drawn, and that what is drawn is what lies in the files."""

import numpy as np
import pytest
from helpers.synthetic_results import make_study
from PIL import Image

from nnsam.errors import InputError
from nnsam.fewshot.report.figures import chosen_cases, chosen_seed, draw_overlays
from nnsam.fewshot.report.results import over_structures, read_results


@pytest.fixture
def study(tmp_path):
    make_study(tmp_path, skip={("unet", 4, 0)}, cases=11)
    return tmp_path


def test_cases_lie_at_the_percentiles_of_the_references_dice(study):
    results = read_results(study)
    dice = over_structures(results.of("nnUNetTrainer", 4, "dice")[1])
    order = [results.cases[index] for index in np.argsort(dice)]
    assert chosen_cases(results, "nnUNetTrainer", 4, 1, 3) == {10: order[1], 50: order[5], 90: order[9]}
    assert chosen_cases(results, "nnUNetTrainer", 4, 1, 1) == {50: order[5]}
    assert len(chosen_cases(results, "nnUNetTrainer", 4, 1, 40)) <= 11


def test_the_seed_is_the_first_that_most_methods_have(study):
    results = read_results(study)
    assert chosen_seed(results, "nnUNetTrainer", 4) == 1
    assert chosen_seed(results, "nnUNetTrainer", 8) == 0
    assert chosen_seed(results, "unet", 4) == 1


def test_a_picture_says_its_rule_and_changes_with_the_predictions(study, tmp_path):
    results = read_results(study)
    out = tmp_path / "out"
    out.mkdir()
    picture = draw_overlays(results, "nnUNetTrainer", 4, 2, out)
    assert "seed 1" in picture.caption
    assert "10, 90th percentile of the Dice of nnUNetTrainer" in picture.caption
    assert "nnSAMTrainer" in picture.caption  # its weights were random
    with Image.open(picture.file) as image:
        before = np.asarray(image.convert("RGB")).astype(int)
    for method in ("nnSAMTrainer",):
        for path in (study / "runs" / method / "n4_s1" / "predictions").iterdir():
            Image.fromarray(np.zeros((48, 48), np.uint8)).save(path)
    draw_overlays(results, "nnUNetTrainer", 4, 2, out)
    with Image.open(picture.file) as image:
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - before).max() > 50


def test_random_weights_are_noted_only_where_a_pictured_method_has_them(tmp_path):
    make_study(tmp_path, skip={("nnSAMTrainer", 4, seed) for seed in range(3)})
    results = read_results(tmp_path)
    captions = {size: draw_overlays(results, None, size, 1, tmp_path).caption for size in (4, 8)}
    assert "random weights" not in captions[4]
    assert "random weights" in captions[8]


def test_without_label_maps_or_runs_nothing_is_drawn(tmp_path):
    make_study(tmp_path, methods={"unet": 0.5}, predictions=False, skip={("unet", 8, seed) for seed in range(3)})
    results = read_results(tmp_path)
    assert draw_overlays(results, None, 4, 3, tmp_path) is None
    assert draw_overlays(results, None, 8, 3, tmp_path) is None


@pytest.mark.parametrize("name", ["imagesTs/{}_0000.png", "labelsTs/{}.png"])
def test_a_missing_test_file_is_told(study, name):
    results = read_results(study)
    (case,) = chosen_cases(results, "nnUNetTrainer", 4, 1, 1).values()
    (study / "test" / name.format(case)).unlink()
    with pytest.raises(InputError, match=rf"{case}\S*png.*(is missing|does not exist)"):
        draw_overlays(results, "nnUNetTrainer", 4, 1, study)


def test_a_label_map_of_another_size_is_told(study):
    results = read_results(study)
    (case,) = chosen_cases(results, "nnUNetTrainer", 8, 0, 1).values()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(study / f"runs/unet/n8_s0/predictions/{case}.png")
    with pytest.raises(InputError, match=r"has the size \(20, 20\), and its reference \(48, 48\)"):
        draw_overlays(results, "nnUNetTrainer", 8, 1, study)
