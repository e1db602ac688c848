"""The published scores, by brute force and by closed forms."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnsam.errors import InputError
from nnsam.metrics.classes import Classes
from nnsam.metrics.evaluation import evaluate
from nnsam.metrics.masks import CaseMasks
from nnsam.metrics.profiles import directed_distance, legacy_scores

masks = arrays(bool, (7, 9), elements=st.booleans())


def border(mask):
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inside)


@given(masks, masks)
def test_distances_are_those_of_all_pairs_of_border_pixels(prediction, reference):
    prediction[3, 4] = reference[2, 2] = True
    pairs = np.linalg.norm(border(prediction)[:, None] - border(reference)[None], axis=-1)
    assert directed_distance(prediction, reference) == pytest.approx(pairs.min(axis=1).mean())


def test_one_direction_only():
    small, large = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    small[5:8, 5:8], large[5:8, 5:8] = True, True
    large[15, 15] = True
    assert directed_distance(small, large) == 0  # what was missed does not count
    assert directed_distance(large, small) > 0


def score(prediction, reference):
    case = CaseMasks(np.array([prediction]), np.array([reference]), Classes({"a": (1,)}), (1.0, 1.0))
    return legacy_scores(case)["a"]


def test_empty_masks():
    assert score([0, 0], [1, 1]) == {"DSC": 0.0, "ASD": 0.0}  # a total miss
    assert score([1, 1], [0, 0]) == {"DSC": 1.0, "ASD": 0.0}  # a false alarm
    assert score([0, 0], [0, 0]) == {"DSC": 0.0, "ASD": 0.0}
    assert score([1, 1], [1, 0]) == {"DSC": pytest.approx(2 / 3), "ASD": 0.5}


def test_everything_is_in_pixels(tmp_path):
    labels = np.zeros((1, 8, 8), np.uint8)
    labels[0, 2:5, 2:5] = 1
    for folder, shift in (("p", 2), ("r", 0)):
        image = sitk.GetImageFromArray(np.roll(labels, shift, axis=2))
        image.SetSpacing((0.5, 0.5, 4.0))
        (tmp_path / folder).mkdir()
        sitk.WriteImage(image, str(tmp_path / folder / "a.nii.gz"))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "heart": 1}}))
    result = evaluate(tmp_path / "p", tmp_path / "r", dataset_json=tmp_path / "dataset.json", profile="legacy")
    (row,) = result.rows
    assert result.unit == "pixels"
    # In a volume of one slice all pixels are border: one column lies on the other square, one 1, one 2 pixels off.
    assert row.scores["ASD"] == pytest.approx(1.0)
    with pytest.raises(InputError, match="in pixels; leave out --spacing"):
        evaluate(
            tmp_path / "p", tmp_path / "r", dataset_json=tmp_path / "dataset.json", profile="legacy", spacing=(1, 1, 1)
        )
