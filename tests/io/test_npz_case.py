import numpy as np
import pytest

from nnsam.errors import InputError
from nnsam.io.npz import read_npz_case
from nnsam.io.reading import read_image, read_labels

IMAGE, LABELS = np.zeros((6, 8), np.uint8), np.ones((6, 8), np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "case.npz", **arrays)
        return tmp_path / "case.npz"

    return save


@pytest.mark.parametrize(
    ("image", "labels", "spacing", "channels"),
    [
        (IMAGE, LABELS, None, 1),
        (np.zeros((6, 8, 3), np.uint8), LABELS, None, 3),
        (np.zeros((3, 6, 8), np.int16), np.ones((3, 6, 8), np.int32), (1.0, 2.0, 3.0), 1),
        (np.zeros((6, 8, 3)), np.ones((6, 8, 3), np.uint8), (1.0, 1.0, 5.0), 1),  # a volume of 3 columns, no colours
    ],
)
def test_arrays_come_back_with_their_meaning(save, image, labels, spacing, channels):
    case = read_npz_case(save(imgs=image, gts=labels, **({} if spacing is None else {"spacing": np.array(spacing)})))
    assert case.name == "case"
    assert case.image.channels == channels
    assert case.image.spacing == (None if spacing is None else spacing[::-1])
    np.testing.assert_array_equal(case.image.pixels, image)
    np.testing.assert_array_equal(case.labels, labels)


def test_pictures_may_state_three_spacings_and_boolean_masks(save):
    case = read_npz_case(save(imgs=IMAGE, gts=LABELS.astype(bool), spacing=np.ones(3)))
    assert case.image.spacing == (1.0, 1.0)
    assert case.labels.dtype == np.uint8


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"imgs": IMAGE}, "lacks the key gts"),
        ({"boxes": IMAGE}, "lacks the key imgs and gts"),
        ({"imgs": IMAGE, "gts": LABELS[:3]}, r"\(6, 8\) and \(3, 8\)"),
        ({"imgs": np.zeros((6, 8, 2)), "gts": LABELS}, "do not fit"),
        ({"imgs": IMAGE[0], "gts": LABELS[0]}, "do not fit"),
        ({"imgs": IMAGE[:0], "gts": LABELS[:0]}, "must hold real numbers"),
        ({"imgs": IMAGE.astype(complex), "gts": LABELS}, "complex128"),
        ({"imgs": IMAGE.astype(str), "gts": LABELS}, "must hold real numbers"),
        ({"imgs": IMAGE + np.nan, "gts": LABELS}, "nan or infinite"),
        ({"imgs": IMAGE, "gts": LABELS.astype(float)}, "whole numbers"),
        ({"imgs": IMAGE, "gts": -LABELS.astype(np.int8)}, "whole numbers"),
        ({"imgs": IMAGE, "gts": LABELS, "spacing": np.array([1.0, 0.0])}, "2 positive numbers"),
        ({"imgs": IMAGE, "gts": LABELS, "spacing": np.array(1.0)}, "2 positive numbers"),
        ({"imgs": np.array([[{}]]), "gts": LABELS}, "pickled Python objects"),
    ],
)
def test_bad_cases_are_named(save, arrays, words):
    with pytest.raises(InputError, match=words):
        read_npz_case(save(**arrays))


def test_instances_are_read_where_asked_and_present(save):
    instances = np.arange(48, dtype=np.uint16).reshape(6, 8)
    path = save(imgs=IMAGE, gts=LABELS, inst=instances)
    assert read_npz_case(path).instances is None
    np.testing.assert_array_equal(read_npz_case(path, with_instances=True).instances, instances)
    assert read_npz_case(save(imgs=IMAGE, gts=LABELS), with_instances=True).instances is None


@pytest.mark.parametrize(
    ("instances", "words"), [(LABELS[:3], r"inst has the shape \(3, 8\)"), (LABELS * 0.5, "inst must hold whole")]
)
def test_bad_instances_are_named(save, instances, words):
    with pytest.raises(InputError, match=words):
        read_npz_case(save(imgs=IMAGE, gts=LABELS, inst=instances), with_instances=True)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_broken_files_are_named(tmp_path, content):
    (tmp_path / "case.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"case\.npz"):
        read_npz_case(tmp_path / "case.npz")


def test_truncated_damaged_and_disguised_files_are_named(save, tmp_path):
    path = save(imgs=IMAGE, gts=LABELS)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(InputError, match="cut off"):
        read_npz_case(path)
    path.write_bytes(content.replace(IMAGE.tobytes(), b"\x01" * IMAGE.size))
    with pytest.raises(InputError, match="cannot be read"):
        read_npz_case(path)
    with path.open("wb") as file:
        np.save(file, IMAGE)
    with pytest.raises(InputError, match="not an npz archive"):
        read_npz_case(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_npz_case(tmp_path / "absent.npz")


@pytest.mark.parametrize("labels", [LABELS, LABELS[..., None]])
def test_an_axis_of_the_only_channel_is_dropped(save, labels):
    path = save(imgs=np.arange(LABELS.size).reshape(*LABELS.shape, 1), gts=labels, boxes=[[0, 0, 1, 1]])
    case = read_npz_case(path)
    assert case.image.pixels.shape == case.labels.shape == LABELS.shape
    assert read_image(path).shape == LABELS.shape
    np.testing.assert_array_equal(read_labels(path, "gts").pixels, LABELS)
