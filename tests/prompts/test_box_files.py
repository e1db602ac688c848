import json

import numpy as np
import pytest
import SimpleITK as sitk
from skimage import io

from nnsam.errors import InputError
from nnsam.io.finding import InputFile, find_images
from nnsam.io.image import make_image
from nnsam.prompts.box_files import boxes_of_labels, open_box_source
from nnsam.prompts.convention import to_challenge

PICTURE = make_image("a.png", np.zeros((6, 8), np.uint8), 2)
VOLUME = make_image("v.nii.gz", np.zeros((4, 6, 8), np.uint8), 3)


def picture_file(folder, name="a.png"):
    return InputFile(folder / name, "picture", ".png", name.removesuffix(".png").removesuffix("_0000"))


@pytest.fixture
def write(tmp_path):
    def write(content, name="boxes.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def find(path, image=PICTURE, name="a.png"):
    return open_box_source(path=path)(picture_file(path.parent, name), image)


def test_boxes_of_the_command_line_are_for_every_case(tmp_path):
    source = open_box_source([[0, 1, 7, 5], [2, 2, 2, 2]])
    for name in ("a.png", "b.png"):
        prompts = source(picture_file(tmp_path, name), PICTURE)
        assert to_challenge(prompts.boxes).tolist() == [[0, 1, 7, 5], [2, 2, 2, 2]]
        assert prompts.labels == (1, 2)
    with pytest.raises(InputError, match=r"--box is \[0, 1, 9, 5\], which reaches beyond the image"):
        open_box_source([[0, 1, 9, 5]])(picture_file(tmp_path), PICTURE)


@pytest.mark.parametrize(
    ("content", "boxes", "labels"),
    [
        ([0, 1, 7, 5], [[0, 1, 7, 5]], (1,)),
        ([[0, 1, 7, 5], [1, 1, 2, 3.0]], [[0, 1, 7, 5], [1, 1, 2, 3]], (1, 2)),
        ({"boxes": [[0, 1, 7, 5]], "labels": [300]}, [[0, 1, 7, 5]], (300,)),
        ({"boxes": [[0, 1, 7, 5], [0, 0, 1, 1]], "labels": [2, 2]}, [[0, 1, 7, 5], [0, 0, 1, 1]], (2, 2)),
        ({"a.png": [[0, 1, 7, 5]], "b.png": [[9, 9, 9, 9]]}, [[0, 1, 7, 5]], (1,)),
        ({"a": [0, 1, 7, 5]}, [[0, 1, 7, 5]], (1,)),
        ({"a": [[0, 0, 1, 1]], "a.png": [[0, 1, 7, 5]]}, [[0, 1, 7, 5]], (1,)),
        ({"a": {"boxes": [[0, 1, 7, 5]], "labels": [4]}}, [[0, 1, 7, 5]], (4,)),
    ],
)
def test_json_lists_boxes_for_all_or_by_name(write, content, boxes, labels):
    prompts = find(write(content))
    assert to_challenge(prompts.boxes).tolist() == boxes
    assert prompts.boxes.dtype == np.int64
    assert prompts.labels == labels


def test_image_files_of_nnunet_are_found_by_the_case_too(write):
    path = write({"a": [[0, 1, 7, 5]]})
    assert to_challenge(find(path, name="a_0000.png").boxes).tolist() == [[0, 1, 7, 5]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "cannot be read as JSON"),
        ("3", "expected a list of boxes"),
        ([], "found no box"),
        ({}, "no boxes for a.png; it has some for nothing"),
        ({"b": [[0, 0, 1, 1]], "c": [], "d": [], "e": []}, r"no boxes for a.png; it has some for b, c, d, \.\.\."),
        ({"a": None}, r"boxes.json, a: expected a list of boxes; found None"),
        ({"a": ["x"]}, "all numbers"),
        ({"a": "box"}, "expected a list of boxes"),
        ({"a": {"box": [[0, 0, 1, 1]]}}, "expected the keys boxes"),
        ({"boxes": [[0, 0, 1, 1]], "label": [1]}, "expected the keys boxes"),
        ({"boxes": [[0, 0, 1, 1]], "labels": [1, 2]}, "one label per box, 1 in all"),
        ({"boxes": [[0, 0, 1, 1]], "labels": [0]}, "whole numbers from 1"),
        ({"boxes": [[0, 0, 1, 1]], "labels": [True]}, "whole numbers from 1"),
        ({"boxes": [[0, 0, 1, 1]], "labels": 1}, "one label per box"),
        ([[0, 0, 1, 1], [0, 0, 1]], "expected boxes as"),
        ([[0, 0, 0, 1, 1, 1]], "a picture needs boxes without z"),
        ([[5, 0, 1, 1]], "x_min > x_max"),
        ("[[NaN, 0, 1, 1]]", "finite"),
        ([[0.5, 0, 1, 1]], "whole pixel"),
    ],
)
def test_bad_json_is_one_sentence(write, content, words):
    with pytest.raises(InputError, match=words) as error:
        find(write(content))
    assert "\n" not in str(error.value)


def test_json_that_is_no_text_or_absent_is_named(tmp_path):
    (tmp_path / "boxes.json").write_bytes(b"\xff\xfe\x00")
    for name in ("boxes.json", "absent.json"):
        with pytest.raises(InputError, match="cannot be read as JSON"):
            open_box_source(path=tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        open_box_source(path=tmp_path / "absent.png")
    (tmp_path / "boxes.txt").write_text("")
    with pytest.raises(InputError, match="label maps"):
        open_box_source(path=tmp_path / "boxes.txt")


def test_a_volume_needs_boxes_with_z(write):
    with pytest.raises(InputError, match="a volume needs boxes with z_min and z_max"):
        find(write([[0, 0, 1, 1]]), VOLUME)
    assert to_challenge(find(write([[0, 1, 2, 7, 5, 3]]), VOLUME).boxes).tolist() == [[0, 1, 2, 7, 5, 3]]


@pytest.mark.parametrize("axis", range(3))
def test_boxes_of_a_single_slice_may_count_its_axis(write, axis):
    image = make_image("v.nii.gz", np.arange(48, dtype=np.uint8).reshape(np.insert((6, 8), axis, 1)), 3)
    box = [0, 1, 7, 5]
    with_axis = [*np.insert(box[:2], 2 - axis, 0).tolist(), *np.insert(box[2:], 2 - axis, 0).tolist()]
    assert image.shape == (6, 8)
    for given in (box, with_axis):
        assert find(write([given]), image).boxes.tolist() == [[1, 0, 6, 8]]
    with_axis[5 - axis] = 2
    with pytest.raises(InputError, match="reaches beyond"):
        find(write([with_axis]), image)


def labels_2d(shape=(6, 8)):
    labels = np.zeros(shape, np.uint8)
    labels[1:3, 2:6] = 7
    labels[5, 7] = 7  # a second part of the same object
    labels[0, 0] = 2
    return labels


def test_each_value_of_a_label_image_is_an_object(tmp_path):
    (tmp_path / "labels").mkdir()
    for path in (tmp_path / "mask.png", tmp_path / "labels" / "a.png"):
        io.imsave(path, labels_2d(), check_contrast=False)
    for path in (tmp_path / "mask.png", tmp_path / "labels"):
        prompts = find(path)
        assert prompts.labels == (2, 7)
        assert to_challenge(prompts.boxes).tolist() == [[0, 0, 0, 0], [2, 1, 7, 5]]
    assert find(tmp_path / "labels", name="a_0000.png").labels == (2, 7)
    with pytest.raises(InputError, match=r"no label image for b\.png; it has those of a"):
        find(tmp_path / "labels", name="b.png")


def test_boxes_are_half_open_in_array_order_from_here_on(write):
    assert find(write([[0, 1, 7, 5]])).boxes.tolist() == [[1, 0, 6, 8]]


def test_boxes_of_a_volume_have_z_last_per_corner():
    labels = np.zeros((4, 6, 8), np.uint16)
    labels[1:3, 2:5, 4:8] = 300
    prompts = boxes_of_labels(labels, "x")
    assert to_challenge(prompts.boxes).tolist() == [[4, 2, 1, 7, 4, 2]]
    assert prompts.labels == (300,)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (labels_2d((6, 9)), r"shape \(6, 9\), but .* has \(6, 8\)"),
        (np.zeros((6, 8), np.uint8), "only background"),
        (np.arange(144, dtype=np.uint8).reshape(6, 8, 3), "colour picture"),
    ],
)
def test_label_images_that_do_not_fit_are_named(tmp_path, labels, words):
    io.imsave(tmp_path / "mask.png", labels, check_contrast=False)
    with pytest.raises(InputError, match=words):
        find(tmp_path / "mask.png")


def test_values_beyond_16_bits_are_refused():
    with pytest.raises(InputError, match="label value 70000"):
        boxes_of_labels(np.array([[70000]]), "x")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"spacing": (1, 1, 5)}, "spacing"),
        ({"origin": (0, 9, 0)}, "origin"),
        ({"spacing": (1, 1, 4.0001)}, None),
    ],
)
def test_label_volumes_must_have_the_images_geometry(tmp_path, change, words):
    for name, values, settings in (
        ("image", np.arange(192, dtype=np.int16).reshape(4, 6, 8), {}),
        ("mask", np.ones((4, 6, 8), np.uint8), change),
    ):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(settings.get("spacing", (1, 1, 4)))
        image.SetOrigin(settings.get("origin", (0, 0, 0)))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    (file,) = find_images(tmp_path / "image.nii.gz")
    source = open_box_source(path=tmp_path / "mask.nii.gz")
    if words is None:
        assert to_challenge(source(file, file.read()).boxes).tolist() == [[0, 0, 0, 7, 5, 3]]
    else:
        with pytest.raises(InputError, match=f"differ in {words}"):
            source(file, file.read())


def test_the_images_own_boxes(tmp_path):
    source = open_box_source()
    file = InputFile(tmp_path / "a.npz", "npz", ".npz")
    image = make_image("a.npz", np.zeros((6, 8), np.uint8), 2, boxes=np.array([[0, 1, 7, 5]], np.int32))
    assert to_challenge(source(file, image).boxes).tolist() == [[0, 1, 7, 5]]
    with pytest.raises(InputError, match=r"a.png needs boxes; give --box or --boxes\."):
        source(picture_file(tmp_path), PICTURE)
    empty = make_image("a.npz", np.zeros((6, 8), np.uint8), 2, boxes=np.zeros((0, 4)))
    with pytest.raises(InputError, match="key boxes: found no box"):
        source(file, empty)


def test_names_that_no_image_has_are_an_error(write, tmp_path):
    inputs = [picture_file(tmp_path, name) for name in ("lesion_1.png", "lesion_2.png")]
    boxes = [[0, 1, 7, 5]]
    for name in ("lesion_1.png", "lesion_1"):
        assert open_box_source(path=write({name: boxes}), inputs=inputs)(inputs[0], PICTURE).labels == (1,)
    assert open_box_source(path=write({"boxes": boxes}), inputs=inputs)(inputs[0], PICTURE).labels == (1,)
    misspelled = write({"lesion_1.png": boxes, "lesoin_2.png": boxes})
    with pytest.raises(InputError, match=r"lesoin_2.png, which is not among the images; did you mean lesion_2.png"):
        open_box_source(path=misspelled, inputs=inputs)
    with pytest.raises(InputError, match=r"x, y, which are not among the images; correct or remove the name"):
        open_box_source(path=write({"x": boxes, "y": boxes}, "others.json"), inputs=inputs)
    assert open_box_source(path=misspelled)(inputs[0], PICTURE).labels == (1,)  # of one image of several
