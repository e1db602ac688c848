"""The challenge's rules: by hand for the odd cases, and against DeepMind's package for the figures."""

import numpy as np
import pytest
from scipy import ndimage

from nnsam.errors import InputError
from nnsam.metrics.evaluation import evaluate
from nnsam.metrics.masks import CaseMasks
from nnsam.metrics.profiles import (
    ScoringOptions,
    challenge_case_score,
    challenge_classes,
    challenge_scores,
    find_profile,
)
from nnsam.metrics.summary import case_scores, summarize

NAN = float("nan")


def label_rows(prediction, reference, spacing=None):
    spacing = spacing or (1.0,) * reference.ndim
    return challenge_scores(CaseMasks(prediction, reference, challenge_classes(reference), spacing))


def score(prediction, reference, spacing=None):
    return challenge_case_score(list(label_rows(prediction, reference, spacing).values()))


def random_labels(seed, shape, count=3):
    """A label map and a disturbed copy of it."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.standard_normal((count + 1, *shape)), [0] + [2] * len(shape))
    disturbed = fields + 0.6 * ndimage.gaussian_filter(rng.standard_normal(fields.shape), [0] + [1.5] * len(shape))
    return disturbed.argmax(axis=0).astype(np.uint8), fields.argmax(axis=0).astype(np.uint8)


def by_the_oracle(package, prediction, reference, spacing_xyz):
    """The challenge's rules around DeepMind's functions; `spacing_xyz` in the file's order, None for pictures."""
    if spacing_xyz is None:
        prediction, reference, spacing_xyz = prediction[..., None], reference[..., None], (1.0, 1.0, 1.0)
    overlaps, surfaces = [], []
    for value in range(1, int(reference.max()) + 1):
        ours, theirs = prediction == value, reference == value
        overlaps.append(package.compute_dice_coefficient(theirs, ours))
        distances = package.compute_surface_distances(theirs, ours, spacing_xyz)
        surfaces.append(package.compute_surface_dice_at_tolerance(distances, 2.0))
    overlap = np.mean(overlaps)
    surface = np.mean(surfaces) if overlap > 0.2 else 0.0
    return {"DSC": np.round(overlap, 4), "NSD": np.round(surface, 4)}


@pytest.mark.parametrize("seed", range(6))
def test_pictures_score_as_by_the_reference_implementation(oracle, seed):
    prediction, reference = random_labels(seed, (37, 52))
    assert score(prediction, reference, (0.3, 7.0)) == by_the_oracle(oracle, prediction, reference, None)


@pytest.mark.parametrize("seed", range(6))
def test_anisotropic_volumes_score_as_by_the_reference_implementation(oracle, seed):
    prediction, reference = random_labels(seed, (9, 24, 20))
    spacing_xyz = (0.7, 0.8, 5.0)
    expected = by_the_oracle(oracle, prediction, reference, spacing_xyz)
    assert score(prediction, reference, spacing_xyz[::-1]) == expected
    # Along the right axes the figure is another one, so that the comparison would notice.
    assert by_the_oracle(oracle, prediction, reference, spacing_xyz[::-1])["NSD"] != expected["NSD"]


def test_the_slice_of_a_picture_has_two_faces(oracle):
    """A contour of a picture 3 pixels off: as a flat slice most of the surface agrees nevertheless."""
    reference, prediction = np.zeros((2, 60, 60), np.uint8)
    reference[10:50, 10:50] = 1
    prediction[10:50, 13:53] = 1
    assert score(prediction, reference)["NSD"] == by_the_oracle(oracle, prediction, reference, None)["NSD"]
    from nnsam.metrics import surface_dice

    assert surface_dice(prediction == 1, reference == 1, tolerance=2) < score(prediction, reference)["NSD"] - 0.05


def blocks(*values, side=6):
    """Blocks of label values in a row."""
    return np.repeat(np.repeat(np.array([values], np.uint8), side, axis=0), side, axis=1)


def test_one_empty_side_is_zero():
    rows = label_rows(blocks(1, 0, 0), blocks(1, 0, 2))
    assert rows == {"label_1": {"DSC": 1, "NSD": 1}, "label_2": {"DSC": 0, "NSD": 0}}
    assert score(blocks(1, 0, 0), blocks(1, 0, 2)) == {"DSC": 0.5, "NSD": 0.5}


def test_a_skipped_value_that_is_predicted_is_zero_and_else_nan():
    reference = blocks(1, 0, 3)
    assert score(blocks(1, 2, 3), reference) == {"DSC": round(2 / 3, 4), "NSD": round(2 / 3, 4)}
    skipped = score(reference, reference)
    assert np.isnan(skipped["DSC"])
    assert skipped["NSD"] == 0  # nan is not above 0.2


def test_predicted_values_above_the_highest_cost_nothing():
    assert score(blocks(1, 7, 7), blocks(1, 0, 0)) == {"DSC": 1, "NSD": 1}


def test_empty_references_have_no_score():
    result = score(blocks(0, 1), blocks(0, 0))
    assert np.isnan(result["DSC"])
    assert result["NSD"] == 0


@pytest.mark.parametrize(("missed", "expected"), [(3, 0.25), (4, 0.0)])
def test_nsd_needs_a_mean_dice_above_a_fifth(missed, expected):
    """One label found of 4 (mean 0.25) and of 5 (mean exactly 0.2)."""
    result = score(blocks(1, *[0] * missed), blocks(*range(1, missed + 2)))
    assert result["DSC"] == 1 / (missed + 1)
    assert result["NSD"] == expected


def test_all_255_labels_count():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert list(challenge_classes(labels).values.values())[-1] == (255,)
    assert score(np.where(labels == 255, 0, labels), labels)["DSC"] == round(254 / 255, 4)


def test_case_scores_are_rounded():
    assert challenge_case_score([{"DSC": 0.55555555, "NSD": 0.33333333}]) == {"DSC": 0.5556, "NSD": 0.3333}


def test_options_of_the_standard_profile_are_refused():
    for options in (ScoringOptions(tolerance=1.0), ScoringOptions(empty="worst")):
        with pytest.raises(InputError, match=r"fixed rules .*a tolerance of 2"):
            find_profile("challenge", options)
    assert find_profile("challenge", ScoringOptions()).fixed_options


# Whole folders.


@pytest.fixture
def folders(tmp_path):
    for name in ("predictions", "references"):
        (tmp_path / name).mkdir()
    return tmp_path / "predictions", tmp_path / "references"


def save(folders, case, prediction, reference, **more):
    np.savez_compressed(folders[0] / f"{case}.npz", segs=prediction)
    np.savez_compressed(folders[1] / f"{case}.npz", **{"gts": reference, **more})


def test_pictures_and_volumes_may_lie_in_one_folder(folders, oracle):
    picture, volume = random_labels(1, (30, 31)), random_labels(2, (8, 20, 22))
    spacing = np.array([0.7, 0.8, 5.0], np.float32)
    save(folders, "2DBox_a", *picture, spacing=np.array([9.0, 9.0, 1.0]))
    save(folders, "3DBox_b", *volume, spacing=spacing)
    result = evaluate(*folders, profile="challenge")
    assert case_scores(result) == {
        "2DBox_a": by_the_oracle(oracle, *picture, None),
        "3DBox_b": by_the_oracle(oracle, *volume, tuple(spacing.astype(float))),
    }
    assert result.unit == "mm or pixels"
    (overall,) = summarize(result)
    assert overall.scores["DSC"].mean == pytest.approx(np.mean([s["DSC"] for s in case_scores(result).values()]))


def test_volumes_of_one_slice_are_volumes(folders, oracle):
    prediction, reference = (labels[None] for labels in random_labels(3, (30, 31)))
    save(folders, "3DBox_a", prediction, reference, spacing=np.array([0.5, 0.5, 4.0]))
    result = case_scores(evaluate(*folders, profile="challenge"))
    assert result["3DBox_a"] == by_the_oracle(oracle, prediction, reference, (0.5, 0.5, 4.0))


def test_cases_without_score_are_left_out_of_the_mean_and_counted(folders):
    save(folders, "a", blocks(1, 0), blocks(1, 0))
    save(folders, "empty", blocks(0, 0), blocks(0, 0))
    (overall,) = summarize(evaluate(*folders, profile="challenge"))
    assert (overall.cases, overall.scores["DSC"].count, overall.scores["DSC"].mean) == (2, 1, 1.0)
    assert overall.scores["NSD"].mean == 0.5  # the rule gives the empty case a 0


def test_names_and_spacings_that_do_not_count_are_refused(folders, tmp_path):
    save(folders, "a", blocks(1, 0), blocks(1, 0))
    with pytest.raises(InputError, match="leave out --labels"):
        evaluate(*folders, profile="challenge", dataset_json=tmp_path / "dataset.json")
    with pytest.raises(InputError, match="in pixels; leave out --spacing"):
        evaluate(*folders, profile="challenge", spacing=(1, 1))
    save(folders, "b", blocks(1, 0)[None], blocks(1, 0)[None])
    (folders[0] / "a.npz").unlink()
    (folders[1] / "a.npz").unlink()
    with pytest.raises(InputError, match="volume without spacing"):
        evaluate(*folders, profile="challenge")
