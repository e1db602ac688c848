import numpy as np
import pytest
import SimpleITK as sitk

from nnsam.errors import InputError
from nnsam.io.finding import find_images
from nnsam.io.formats import image_formats, label_dtype, label_ending, label_endings
from nnsam.io.image import Geometry, make_image
from nnsam.io.reading import read_labels
from nnsam.io.writing import write_labels

PICTURE = make_image("a.png", np.arange(48, dtype=np.uint8).reshape(6, 8), 2)
STACK = make_image("a.tif", np.arange(192, dtype=np.uint8).reshape(4, 6, 8), 3)
GEOMETRY = Geometry((0.5, 0.75, 4.0), (1.0, -2.0, 3.0), (0.0, 1, 0, -1, 0, 0, 0, 0, 1))


def labels_for(image, top=2):
    labels = np.zeros(image.shape, label_dtype([top]))
    labels[..., 2:4, 1:5] = 1
    labels[..., 5, 6:] = top
    return labels


@pytest.mark.parametrize("top", [2, 300])
@pytest.mark.parametrize("ending", [".png", ".tif", ".tiff"])
def test_pictures_hold_8_bits_or_16(tmp_path, ending, top):
    labels = labels_for(PICTURE, top)
    write_labels(tmp_path / f"a{ending}", PICTURE.with_pixels(labels))
    found = read_labels(tmp_path / f"a{ending}").pixels
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == (np.uint8 if top == 2 else np.uint16)


def test_stacks_come_back_as_pages(tmp_path):
    write_labels(tmp_path / "a.tif", STACK.with_pixels(labels_for(STACK)))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").pixels, labels_for(STACK))


@pytest.mark.parametrize("top", [2, 300])
@pytest.mark.parametrize("ending", label_endings("volume"))
@pytest.mark.parametrize("dimensions", [2, 3])
def test_volumes_keep_the_geometry(tmp_path, ending, dimensions, top):
    geometry = GEOMETRY if dimensions == 3 else Geometry((0.5, 0.75), (1.0, 2.0), (1.0, 0.0, 0.0, 1.0))
    pixels = np.arange(192).reshape(4, 6, 8)
    image = make_image("a", pixels if dimensions == 3 else pixels[0], dimensions, geometry=geometry)
    write_labels(tmp_path / f"a{ending}", image.with_pixels(labels_for(image, top)))
    found = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), labels_for(image, top))
    for name, values in vars(geometry).items():
        assert getattr(found, f"Get{name.capitalize()}")() == pytest.approx(values, abs=1e-5), name


def test_a_single_slice_is_written_as_its_file_has_it(tmp_path):
    image = make_image("a", np.arange(48).reshape(1, 6, 8), 3, geometry=GEOMETRY)
    write_labels(tmp_path / "a.nii.gz", image.with_pixels(labels_for(image)))
    assert sitk.ReadImage(str(tmp_path / "a.nii.gz")).GetSize() == (8, 6, 1)


def test_npz_holds_segs(tmp_path):
    write_labels(tmp_path / "a.npz", STACK.with_pixels(labels_for(STACK)))
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == ["segs"]
        assert archive["segs"].dtype == np.uint8
        np.testing.assert_array_equal(archive["segs"], labels_for(STACK))


def test_every_input_has_a_label_format_and_a_label_map_can_be_read_again(tmp_path):
    for row in image_formats():
        chosen = label_ending(row.kind, row.ending)
        assert chosen in label_endings(row.kind)
        if row.kind in ("picture", "tiff"):
            write_labels(tmp_path / f"a{chosen}", PICTURE.with_pixels(labels_for(PICTURE)))
            (file,) = find_images(tmp_path / f"a{chosen}")
            np.testing.assert_array_equal(file.read().pixels, labels_for(PICTURE))


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    (tmp_path / "a.nii.gz").write_text("old")
    monkeypatch.setattr(sitk, "WriteImage", fail)
    image = make_image("a", np.zeros((4, 6, 8)), 3, geometry=GEOMETRY)
    with pytest.raises(InputError, match=r"a.nii.gz cannot be written \(disk full\)"):
        write_labels(tmp_path / "a.nii.gz", image.with_pixels(labels_for(image)))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.nii.gz", "old")]


@pytest.mark.parametrize("wrong", [labels_for(PICTURE)[:5], labels_for(PICTURE).T, labels_for(STACK)])
@pytest.mark.parametrize("ending", [".png", ".tif", ".nii.gz", ".npz"])
def test_labels_of_another_shape_than_the_image_are_refused(tmp_path, ending, wrong):
    with pytest.raises(InputError, match="give them its shape"):
        write_labels(tmp_path / f"a{ending}", PICTURE.with_pixels(wrong))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [STACK, PICTURE])
def test_what_png_cannot_hold_is_told(tmp_path, image):
    labels = labels_for(image) if image is STACK else labels_for(image).astype(np.int64)
    with pytest.raises(InputError, match=r"a\.png cannot hold labels of the shape"):
        write_labels(tmp_path / "a.png", image.with_pixels(labels))
    assert list(tmp_path.iterdir()) == []
