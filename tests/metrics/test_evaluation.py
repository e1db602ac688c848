import json

import numpy as np
import pytest
import SimpleITK as sitk
from skimage import io

from nnsam.datasets.phantom import STRUCTURES, make_phantom, write_phantom_dataset
from nnsam.errors import InputError, NnsamWarning
from nnsam.metrics import average_surface_distance, dice, hausdorff95, surface_dice
from nnsam.metrics.evaluation import evaluate
from nnsam.metrics.profiles import ScoringOptions


@pytest.fixture
def folders(tmp_path):
    for name in ("predictions", "references"):
        (tmp_path / name).mkdir()
    return tmp_path / "predictions", tmp_path / "references"


def save(folder, case, array, spacing=None, origin=None):
    if spacing is None:
        io.imsave(folder / f"{case}.png", array, check_contrast=False)
        return
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    if origin is not None:
        image.SetOrigin(origin)
    sitk.WriteImage(image, str(folder / f"{case}.nii.gz"))


def declare(folder, **labels):
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))


def box(top, left, value=1, shape=(20, 24)):
    labels = np.zeros(shape, np.uint8)
    labels[top : top + 8, left : left + 8] = value
    return labels


def scores(result):
    return {(row.case, row.label): row.scores for row in result.rows}


def test_scores_are_those_of_the_library_with_the_axes_in_order(folders):
    prediction, reference = box(4, 4), box(6, 5)
    save(folders[0], "a", prediction, spacing=(0.5, 2.0))  # x, y
    save(folders[1], "a", reference, spacing=(0.5, 2.0))
    result = evaluate(*folders, options=ScoringOptions(tolerance=1.0))
    masks = prediction == 1, reference == 1
    assert result.unit == "mm"
    assert scores(result)["a", "label_1"] == pytest.approx(
        {
            "DSC": dice(*masks),
            "ASD": average_surface_distance(*masks, (2.0, 0.5)),
            "HD95": hausdorff95(*masks, (2.0, 0.5)),
            "NSD": surface_dice(*masks, (2.0, 0.5), tolerance=1.0),
        }
    )
    # The test would notice axes in the wrong order.
    assert hausdorff95(*masks, (2.0, 0.5)) != hausdorff95(*masks, (0.5, 2.0))


def test_single_slice_volume_is_scored_as_its_slice(folders):
    for folder, labels in zip(folders, (box(4, 4), box(6, 5)), strict=True):
        save(folder, "flat", labels, (0.5, 2.0))
        save(folder, "slice", labels[None], (0.5, 2.0, 7.0))
    result = scores(evaluate(*folders))
    assert result["flat", "label_1"] == pytest.approx(result["slice", "label_1"])


def test_pictures_are_measured_in_pixels_or_by_the_given_spacing(folders):
    save(folders[0], "a", box(4, 4))
    save(folders[1], "a", box(6, 4))
    in_pixels, in_mm = evaluate(*folders), evaluate(*folders, spacing=(3.0, 1.0))
    assert (in_pixels.unit, in_mm.unit) == ("pixels", "mm")
    assert scores(in_pixels)["a", "label_1"]["HD95"] == 2
    assert scores(in_mm)["a", "label_1"]["HD95"] == 6


def test_labels_are_taken_from_the_dataset_beside_the_references(tmp_path):
    dataset = write_phantom_dataset(tmp_path / "Dataset001_P", 1, 2, size=(48, 48))
    result = evaluate(dataset / "labelsTs", dataset / "labelsTs")
    assert list(result.classes.values) == list(STRUCTURES)
    assert all(row.scores == {"DSC": 1, "ASD": 0, "HD95": 0, "NSD": 1} for row in result.rows)
    assert len(result.rows) == 10
    assert result.classes_source.endswith("dataset.json")


def test_regions_are_scored_as_unions(folders, tmp_path):
    labels = make_phantom(0, (48, 48))[1]
    merged = np.where(labels == STRUCTURES["RA"], STRUCTURES["RV"], labels).astype(np.uint8)
    save(folders[0], "a", merged)
    save(folders[1], "a", labels)
    declare(tmp_path, whole=[1, 2, 3, 4, 5], right=[2, 4], RA=4)
    result = scores(evaluate(*folders, dataset_json=tmp_path / "dataset.json"))
    assert result["a", "whole"]["DSC"] == result["a", "right"]["DSC"] == 1
    assert result["a", "RA"]["DSC"] == 0


def test_ignored_pixels_do_not_count(folders):
    reference = box(4, 4)
    reference[:, 12:] = 2
    prediction = box(4, 4)
    prediction[:, 14:] = 1  # wrong, but nobody knows
    save(folders[0], "a", prediction)
    save(folders[1], "a", reference)
    declare(folders[1], box=1, ignore=2)
    result = evaluate(*folders)
    assert scores(result)["a", "box"] == {"DSC": 1, "ASD": 0, "HD95": 0, "NSD": 1}
    assert result.rows[0].predicted_pixels == 64
    # Without the declaration the same pixels are an error.
    declare(folders[1], box=1, other=2)
    assert scores(evaluate(*folders))["a", "box"]["DSC"] < 0.6


def test_misses_and_false_alarms_follow_the_policy(folders):
    empty = np.zeros((30, 40), np.uint8)
    full = box(2, 2, shape=(30, 40))
    for case, prediction, reference in (("absent", empty, empty), ("alarm", full, empty), ("miss", empty, full)):
        save(folders[0], case, prediction)
        save(folders[1], case, reference)
    declare(folders[1], box=1)
    for policy, distance in (("nan", np.nan), ("worst", 50.0)):
        result = scores(evaluate(*folders, options=ScoringOptions(empty=policy)))
        expected = {"DSC": 0, "ASD": distance, "HD95": distance, "NSD": 0}
        assert result["miss", "box"] == pytest.approx(expected, nan_ok=True)
        assert result["alarm", "box"] == pytest.approx(expected, nan_ok=True)
        assert all(np.isnan(value) for value in result["absent", "box"].values())


def test_two_files_are_compared_whatever_their_names(folders):
    save(folders[0], "mine", box(4, 4))
    save(folders[1], "theirs", box(4, 4))
    result = evaluate(folders[0] / "mine.png", folders[1] / "theirs.png")
    assert scores(result)["theirs", "label_1"]["DSC"] == 1


def test_formats_may_differ_between_the_folders(folders):
    save(folders[0], "a", box(4, 4))
    save(folders[1], "a", box(4, 4), (2.0, 2.0))
    assert scores(evaluate(*folders))["a", "label_1"]["DSC"] == 1


def test_unpaired_cases_are_named(folders):
    for case in ("a", "b", "c", "d", "e"):
        save(folders[1], case, box(4, 4))
    save(folders[0], "a", box(4, 4))
    with pytest.raises(InputError, match=r"lacks 4 of 5 predictions: b, c, d, \.\.\."):
        evaluate(*folders)
    for case in ("b", "c", "d", "e", "x"):
        save(folders[0], case, box(4, 4))
    with pytest.raises(InputError, match="lacks the references of 1 predictions: x"):
        evaluate(*folders)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"array": box(4, 4, shape=(20, 25))}, "differ in shape"),
        ({"spacing": (1.0, 1.1)}, "differ in spacing"),
        ({"origin": (0.0, 5.0)}, "differ in origin"),
    ],
)
def test_different_geometry_is_named(folders, change, words):
    save(folders[1], "a", box(4, 4), (1.0, 1.0))
    save(folders[0], "a", **{"array": box(4, 4), "spacing": (1.0, 1.0), **change})
    with pytest.raises(InputError, match="Case a: prediction and reference " + words):
        evaluate(*folders)


def test_spacing_that_does_not_fit_is_named(folders):
    save(folders[0], "a", box(4, 4))
    save(folders[1], "a", box(4, 4))
    with pytest.raises(InputError, match="2 dimensions, but --spacing holds 3"):
        evaluate(*folders, spacing=(1, 1, 1))
    save(folders[0], "b", box(4, 4), (1.0, 1.0))
    save(folders[1], "b", box(4, 4), (1.0, 1.0))
    with pytest.raises(InputError, match="in mm in b and in pixels in a"):
        evaluate(*folders)
    assert evaluate(*folders, spacing=(1, 1)).unit == "mm"
    for folder in folders:
        (folder / "a.png").unlink()
    with pytest.raises(InputError, match="holds its own spacing, as do all references; leave out --spacing"):
        evaluate(*folders, spacing=(1, 1))


def write_npz(folders, case, shape, spacing=None):
    """A square or cube, shifted by a pixel to the right in the prediction."""
    for folder, key, start in zip(folders, ("segs", "gts"), (4, 3), strict=True):
        labels = np.zeros(shape, np.uint8)
        labels[..., 3:6, start : start + 3] = 1
        np.savez(folder / f"{case}.npz", **{key: labels}, **({} if spacing is None else {"spacing": spacing}))


def test_pictures_and_volumes_in_npz_are_scored_as_each_other_says(folders):
    write_npz(folders, "picture", (12, 14))
    write_npz(folders, "volume", (5, 12, 14), (0.5, 0.5, 2.0))
    with pytest.raises(InputError, match=r"mm in volume and in pixels in picture; give .* --spacing, or score"):
        evaluate(*folders)
    mixed = scores(evaluate(*folders, spacing=(0.25, 0.25)))
    alone = {}
    for case, spacing in (("picture", (0.25, 0.25)), ("volume", None)):
        files = [folder / f"{case}.npz" for folder in folders]
        alone |= scores(evaluate(*files, spacing=spacing))
    assert mixed == alone
    write_npz(folders, "volume", (5, 12, 14))
    for spacing, words in (
        (None, "volume.npz is a volume without spacing; give --spacing z,y,x"),
        (
            (1, 1),
            "volume.npz has 3 dimensions, but --spacing holds 2 values; score pictures and .* of their own",
        ),
        (
            (1, 1, 1),
            "picture.npz has 2 dimensions, but --spacing holds 3 values; score pictures and .* of their own",
        ),
    ):
        with pytest.raises(InputError, match=words):
            evaluate(*folders, spacing=spacing)


def test_stacks_need_a_spacing(folders):
    for folder in folders:
        io.imsave(folder / "a.tif", np.ones((3, 8, 9), np.uint8), check_contrast=False)
    with pytest.raises(InputError, match="volume without spacing"):
        evaluate(*folders)
    assert scores(evaluate(*folders, spacing=(2, 1, 1)))["a", "label_1"]["DSC"] == 1


def test_undeclared_values_empty_sets_and_unknown_profiles_are_named(folders):
    save(folders[0], "a", box(4, 4, 3))
    save(folders[1], "a", box(4, 4, 1))
    declare(folders[1], box=1)
    with pytest.raises(InputError, match=r"The prediction of a holds the label values \[3\]"):
        evaluate(*folders)
    with pytest.raises(InputError, match="known: standard"):
        evaluate(*folders, profile="other")
    (folders[1] / "dataset.json").unlink()
    for folder in folders:
        save(folder, "a", np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError, match="All label maps are empty"):
        evaluate(*folders)


@pytest.mark.parametrize(("ours", "theirs"), [(1, 255), (255, 1)])
def test_masks_of_0_and_255_against_0_and_1_get_a_hint(folders, ours, theirs):
    save(folders[0], "a", box(4, 4, ours))
    save(folders[1], "a", box(4, 4, theirs))
    white = "references" if theirs == 255 else "predictions"
    with pytest.warns(NnsamWarning, match=rf"Case a: the {white} hold 0 and 255, .* write the {white} with 0 and 1"):
        evaluate(*folders)
    save(folders[0], "b", box(4, 4, ours))
    save(folders[1], "b", box(4, 4, theirs))
    with pytest.warns(NnsamWarning) as told:
        evaluate(*folders)
    assert len(told) == 1
    assert str(told[0].message).startswith("2 of 2 cases (the first: a): ")
    for folder in folders:
        (folder / "b.png").unlink()
    declare(folders[1], box=1)
    with pytest.raises(InputError, match=r"values \[255\], .* Masks of 0 and 255 are written as 0 and 1"):
        evaluate(*folders)


@pytest.mark.filterwarnings("error::nnsam.errors.NnsamWarning")
@pytest.mark.parametrize(("ours", "theirs"), [((1,), (1, 255)), ((255,), (255,)), ((0,), (255,)), ((2,), (255,))])
def test_other_values_get_none(folders, ours, theirs):
    for folder, values in zip(folders, (ours, theirs), strict=True):
        save(folder, "a", np.maximum.reduce([box(4, 4 + 9 * step, value) for step, value in enumerate(values)]))
    evaluate(*folders)
