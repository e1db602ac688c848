"""Label maps in the challenge's npz layout, read and scored."""

import zipfile

import numpy as np
import pytest
from skimage import io

from nnsam.errors import InputError
from nnsam.io.finding import find_labels
from nnsam.io.npz import read_npz_labels
from nnsam.metrics import dice, hausdorff95
from nnsam.metrics.evaluation import evaluate
from nnsam.metrics.summary import OVERALL_OBJECTS, case_scores, summarize

CLASSES = np.array([[2, 2, 0, 5], [2, 0, 0, 5]], np.uint8)
OBJECTS = np.array([[1, 1, 0, 2], [3, 0, 0, 2]], np.uint16)


def write(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def test_auto_is_the_instances_where_present(tmp_path):
    path = write(tmp_path / "a.npz", gts=CLASSES, inst=OBJECTS, box_labels=np.array([2, 5, 2]))
    np.testing.assert_array_equal(read_npz_labels(path, "auto").pixels, OBJECTS)
    np.testing.assert_array_equal(read_npz_labels(path, "inst").pixels, OBJECTS)
    np.testing.assert_array_equal(read_npz_labels(path, "gts").pixels, CLASSES)


def test_auto_numbers_classes_by_their_boxes(tmp_path):
    path = write(tmp_path / "a.npz", gts=CLASSES, box_labels=np.array([2, 5], np.int16))
    expected = np.select([CLASSES == 2, CLASSES == 5], [1, 2])
    np.testing.assert_array_equal(read_npz_labels(path, "auto").pixels, expected)
    swapped = write(tmp_path / "b.npz", gts=CLASSES, box_labels=np.array([5, 2]))
    np.testing.assert_array_equal(read_npz_labels(swapped, "auto").pixels, expected * 2 % 3)
    fewer = write(tmp_path / "c.npz", gts=CLASSES, box_labels=np.array([5]))
    np.testing.assert_array_equal(read_npz_labels(fewer, "auto").pixels, CLASSES == 5)
    plain = write(tmp_path / "d.npz", gts=CLASSES)
    np.testing.assert_array_equal(read_npz_labels(plain, "auto").pixels, CLASSES)


def test_spacing_is_turned_into_array_order(tmp_path):
    volume = np.stack([CLASSES] * 3)
    read = read_npz_labels(write(tmp_path / "a.npz", gts=volume, spacing=np.array([1.0, 2.0, 3.0])), "gts")
    assert read.spacing == (3.0, 2.0, 1.0)
    assert read_npz_labels(write(tmp_path / "b.npz", gts=CLASSES, spacing=[1.0, 2.0]), "gts").spacing == (2.0, 1.0)
    assert read_npz_labels(write(tmp_path / "c.npz", gts=CLASSES), "gts").spacing is None


@pytest.mark.parametrize(
    ("arrays", "key", "words"),
    [
        ({"gts": CLASSES}, "segs", r"lacks the key segs\.$"),
        ({"masks": CLASSES[None]}, "segs", "lacks the key segs; written by `nnsam segment --separate`"),
        ({"imgs": CLASSES}, "auto", "lacks the key gts"),
        ({"gts": CLASSES}, "inst", "lacks the key inst"),
        ({"segs": np.array([None, 1])}, "segs", "pickled Python objects"),
        ({"segs": CLASSES.astype("U3")}, "segs", "must be a label map"),
        ({"segs": CLASSES * 1j}, "segs", "must be a label map"),
        ({"segs": CLASSES[None, None]}, "segs", r"found uint8, shape \(1, 1, 2, 4\)"),
        ({"segs": CLASSES / 2.5}, "segs", "no whole numbers"),
        ({"segs": -CLASSES.astype(int)}, "segs", "negative"),
        ({"gts": CLASSES, "box_labels": np.array([2, 2])}, "auto", r"each once; found \[2, 2\]"),
        ({"gts": CLASSES, "spacing": np.array([0.0, 1.0])}, "gts", "spacing must hold 2 positive numbers"),
    ],
)
def test_bad_files_are_named(tmp_path, arrays, key, words):
    with pytest.raises(InputError, match=words):
        read_npz_labels(write(tmp_path / "a.npz", **arrays), key)


def test_damaged_files_are_named(tmp_path):
    path = write(tmp_path / "a.npz", segs=np.random.default_rng(0).integers(0, 9, (64, 64)))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="cut off"):
        read_npz_labels(path, "segs")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("segs.npy", b"no array")
    with pytest.raises(InputError, match=r"b\.npz cannot be read \(segs is no array\)"):
        read_npz_labels(tmp_path / "b.npz", "segs")


def test_npz_beside_other_label_maps_is_left_alone(tmp_path):
    """nnU-Net saves probabilities as <case>.npz beside its predictions."""
    (tmp_path / "a.npz").write_text("")
    assert list(find_labels(tmp_path)) == ["a"]
    (tmp_path / "a.nii.gz").write_text("")
    assert find_labels(tmp_path)["a"].name == "a.nii.gz"


# Scored with the standard profile.


@pytest.fixture
def folders(tmp_path):
    for name in ("predictions", "references"):
        (tmp_path / name).mkdir()
    return tmp_path / "predictions", tmp_path / "references"


def objects(*tops, shape=(24, 10)):
    labels = np.zeros(shape, np.uint16)
    for index, top in enumerate(tops):
        labels[top : top + 5, 2:8] = index + 1
    return labels


def test_each_case_has_its_own_objects(folders):
    write(folders[0] / "a.npz", segs=objects(1, 10))
    write(folders[1] / "a.npz", gts=(objects(0, 10) > 0).astype(np.uint8), inst=objects(0, 10))
    write(folders[0] / "b.npz", segs=objects(0))
    write(folders[1] / "b.npz", gts=(objects(0) > 0).astype(np.uint8), inst=objects(0))
    result = evaluate(*folders)
    assert [(row.case, row.label) for row in result.rows] == [("a", "label_1"), ("a", "label_2"), ("b", "label_1")]
    assert result.unit == "pixels"
    assert case_scores(result)["a"]["DSC"] == pytest.approx((0.8 + 1) / 2)
    (overall,) = summarize(result)
    assert (overall.label, overall.cases) == (OVERALL_OBJECTS, 2)
    assert overall.scores["DSC"].mean == pytest.approx((0.9 + 1) / 2)
    # As classes there is only one, and objects merge.
    merged = evaluate(*folders, reference_key="gts")
    assert [summary.label for summary in summarize(merged)] == ["label_1", "label_2", "all classes"]


def test_volumes_are_measured_along_their_axes(folders):
    prediction, reference = (np.stack([np.zeros_like(labels), labels, labels]) for labels in (objects(1), objects(3)))
    prediction[0] = prediction[1]
    write(folders[0] / "a.npz", segs=prediction)
    write(folders[1] / "a.npz", gts=reference, spacing=np.array([0.5, 1.0, 4.0]))
    result = evaluate(*folders)
    masks = prediction == 1, reference == 1
    assert result.unit == "mm"
    assert result.rows[0].scores["HD95"] == hausdorff95(*masks, (4.0, 1.0, 0.5)) >= 4
    assert hausdorff95(*masks, (0.5, 1.0, 4.0)) < 4
    assert result.rows[0].scores["DSC"] == dice(*masks)


def test_false_alarms_and_cases_without_objects_are_counted(folders):
    write(folders[0] / "a.npz", segs=objects(1, 10))
    write(folders[1] / "a.npz", gts=objects(1))
    write(folders[0] / "b.npz", segs=objects())
    write(folders[1] / "b.npz", gts=objects())
    (overall,) = summarize(evaluate(*folders))
    assert (overall.cases, overall.false_alarms, overall.scores["DSC"].count) == (2, 1, 1)
    assert overall.scores["DSC"].mean == 0.5


def test_formats_may_differ(folders):
    io.imsave(folders[0] / "a.png", objects(1).astype(np.uint8), check_contrast=False)
    write(folders[1] / "a.npz", gts=objects(1))
    assert evaluate(*folders).rows[0].scores["DSC"] == 1


def test_objects_take_no_names_and_keys_are_known(folders, tmp_path):
    write(folders[0] / "a.npz", segs=objects(1))
    write(folders[1] / "a.npz", gts=objects(1))
    (tmp_path / "names.json").write_text('{"labels": {"background": 0, "thing": 1}}')
    with pytest.raises(InputError, match="give --reference-key gts"):
        evaluate(*folders, dataset_json=tmp_path / "names.json")
    named = evaluate(*folders, dataset_json=tmp_path / "names.json", reference_key="gts")
    assert named.rows[0].label == "thing"
    with pytest.raises(InputError, match="known: auto, inst, gts"):
        evaluate(*folders, reference_key="other")


def test_real_sets_agree_with_themselves(shared, tmp_path):
    """Instances of pictures, classes of anisotropic volumes: references read as predictions score 1."""
    for name, key in (("micro_nuclei_stardist", "inst"), ("mr3d_acdc", "gts"), ("fundus_discup_smdg", "gts")):
        source = sorted((shared / "data" / name / "test").glob("*.npz"))
        if not source:
            pytest.skip("the test sets are absent")
        case = np.load(source[0])
        write(tmp_path / f"{name}.npz", segs=case[key])
        for profile in ("standard", "challenge"):
            result = evaluate(tmp_path / f"{name}.npz", source[0], profile=profile)
            assert len(result.rows) == len(case["boxes"])
            (overall,) = summarize(result)
            assert overall.scores["DSC"].mean == overall.scores["NSD"].mean == 1
