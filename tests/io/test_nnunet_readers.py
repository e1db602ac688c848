"""Readers and writers against nnU-Net's own; damaged and unfitting files are named in a sentence."""

import gzip
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from PIL import Image

from nnsam.errors import InputError, NnsamWarning, SetupError
from nnsam.io import volumes
from nnsam.io.nnunet_readers import READERS, reader
from nnsam.io.writing import write_class_probabilities

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
VOLUME = (np.arange(4 * 6 * 8) - 50).astype(np.int16).reshape(4, 6, 8)
LABELS = np.random.default_rng(0).integers(0, 5, (4, 6, 8)).astype(np.uint8)
ANGLE = np.deg2rad(20)
ROTATION = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
# Axes permuted and flipped, then turned: x of the file points roughly to posterior, y to superior, z to left.
OBLIQUE = ROTATION @ np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]) @ np.diag([1.0, -1, 1])
DIRECTIONS = {"axis-aligned": np.eye(3), "flipped": np.diag([-1.0, -1, 1]), "oblique": OBLIQUE}


def theirs(name):
    return recursive_find_reader_writer_by_name(name)()


def check_equal_reading(name, *paths):
    """Reads with both, compares, and returns both sets of properties."""
    image, properties = reader(name).read_images(paths)
    expected, expected_properties = theirs(name).read_images([str(path) for path in paths])
    assert image.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(image, expected)
    assert list(properties["spacing"]) == list(expected_properties["spacing"])
    return properties, expected_properties


def check_equal_writing(name, labels, properties, expected_properties, folder, ending):
    """Writes with both and compares everything that is in the files."""
    ours, expected = folder / f"ours{ending}", folder / f"theirs{ending}"
    reader(name).write_segmentation(labels, ours, properties)
    theirs(name).write_seg(labels, str(expected), expected_properties)
    assert sorted(path.name.split(".")[0] for path in folder.glob("*")).count("ours") == len(
        list(folder.glob("theirs*"))
    )
    if ending in (".png", ".bmp"):
        one, other = Image.open(ours), Image.open(expected)
        assert one.mode == other.mode
        np.testing.assert_array_equal(one, other)
    elif ending in (".tif", ".tiff"):
        one, other = tifffile.imread(ours), tifffile.imread(expected)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)
    else:
        check_equal_volumes(ours, expected)
    return ours


def check_equal_volumes(ours, expected):
    one, other = sitk.ReadImage(str(ours)), sitk.ReadImage(str(expected))
    assert one.GetPixelIDTypeAsString() == other.GetPixelIDTypeAsString()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))
    for geometry in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(one, geometry)() == getattr(other, geometry)()
    if ours.name.endswith((".nii", ".nii.gz")):
        one, other = nibabel.load(ours), nibabel.load(expected)
        np.testing.assert_array_equal(one.affine, other.affine)
        for field in ("dim", "datatype", "bitpix", "scl_slope", "scl_inter", "intent_code"):
            np.testing.assert_array_equal(one.header[field], other.header[field])
        assert one.header.get_zooms() == other.header.get_zooms()


def write_volume(path, array=VOLUME, spacing=(0.7, 1.3, 2.5), origin=(10, -20, 30), direction=DIRECTIONS["oblique"]):
    image = sitk.GetImageFromArray(array)
    dimensions = image.GetDimension()
    direction = direction if dimensions == 3 else ROTATION
    image.SetSpacing(spacing[:dimensions])
    image.SetOrigin(origin[:dimensions])
    image.SetDirection(np.asarray(direction)[:dimensions, :dimensions].ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


# ---- pictures


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR, np.dstack([COLOUR, GREY]), GREY[:1, :1], GREY[:3], COLOUR[:, :2]])
def test_pictures_are_read_and_labelled_as_by_nnunet(tmp_path, ending, pixels):
    if ending == ".bmp" and pixels.shape[-1] == 4:
        pytest.skip("nnU-Net cannot read what Pillow writes")
    Image.fromarray(pixels).save(tmp_path / f"a_0000{ending}")
    both = check_equal_reading("NaturalImage2DIO", tmp_path / f"a_0000{ending}")
    labels = (pixels if pixels.ndim == 2 else pixels[..., 0])[None] % 7
    (tmp_path / "out").mkdir()
    check_equal_writing("NaturalImage2DIO", labels, *both, tmp_path / "out", ".png")
    if ending == ".bmp":
        check_equal_writing("NaturalImage2DIO", labels, *both, tmp_path / "out", ending)


def sixteen_bit(path):
    Image.fromarray(GREY.astype(np.uint16) * 250).save(path)


def palette(path, **options):
    picture = Image.fromarray((GREY > 100).astype(np.uint8), "P")
    picture.putpalette([200, 10, 30, 0, 90, 255])
    picture.save(path, **options)


def rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(path, exif=exif)


def planes(path):
    tifffile.imwrite(path, np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("deep.png", sixteen_bit),
        ("palette.png", palette),
        ("clear.png", lambda path: palette(path, transparency=1)),
        ("bits.png", lambda path: Image.fromarray(GREY > 100).save(path)),
        ("rotated.png", rotated),
        ("planes.tif", planes),
        ("float.tif", lambda path: tifffile.imwrite(path, GREY.astype(np.float64) / 7)),
        ("swapped.tif", lambda path: tifffile.imwrite(path, GREY.astype(np.int16), byteorder=">")),
        ("white.tiff", lambda path: tifffile.imwrite(path, GREY, photometric="miniswhite")),
        ("stack.tif", lambda path: tifffile.imwrite(path, VOLUME[:3], photometric="minisblack")),
        ("picture.jpg", lambda path: Image.fromarray(COLOUR).save(path)),
        ("jpeg.png", lambda path: Image.fromarray(COLOUR).save(path, format="jpeg")),
        ("cmyk.jpg", lambda path: Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(path)),
    ],
)
def test_unusual_pictures_have_the_same_pixels(tmp_path, name, write):
    write(tmp_path / name)
    check_equal_reading("NaturalImage2DIO", tmp_path / name)


def test_several_pictures_are_stacked(tmp_path):
    for number in range(3):
        Image.fromarray(GREY + number).save(tmp_path / f"a_{number:04d}.png")
    check_equal_reading("NaturalImage2DIO", *sorted(tmp_path.glob("*.png")))


@pytest.mark.parametrize(("largest", "mode"), [(0, "L"), (254, "L"), (255, "I;16"), (65535, "I;16")])
def test_the_pixel_type_of_label_pictures_is_nnunets(tmp_path, largest, mode):
    labels = np.zeros((1, 6, 8), np.uint16)
    labels[0, 2, 3] = largest
    properties = {"spacing": (999, 1, 1)}
    path = check_equal_writing("NaturalImage2DIO", labels, properties, properties, tmp_path, ".png")
    assert Image.open(path).mode == mode


def test_tiff_labels_of_three_rows_are_no_colours(tmp_path):
    reader("NaturalImage2DIO").write_segmentation(LABELS[:1, :3], tmp_path / "a.tif", {})  # nnU-Net fails on it
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), LABELS[0, :3])


# ---- SimpleITK


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".gipl"])
@pytest.mark.parametrize("name", ["SimpleITKIO", "SimpleITKIOWithReorient"])
def test_volumes_are_read_and_labelled_as_by_simpleitkio(tmp_path, name, ending, direction):
    path = write_volume(tmp_path / f"a_0000{ending}", direction=DIRECTIONS[direction])
    both = check_equal_reading(name, path)
    turned = reader(name).read_images([path])[0].shape[1:]
    labels = np.random.default_rng(1).integers(0, 4, turned).astype(np.uint8)
    (tmp_path / "out").mkdir()
    written = check_equal_writing(name, labels, *both, tmp_path / "out", ending)
    assert sitk.ReadImage(str(written)).GetSize() == sitk.ReadImage(str(path)).GetSize()
    again, _ = reader(name).read_images([written])
    np.testing.assert_array_equal(again[0], labels)


def test_reorienting_changes_the_array_and_labels_come_back_where_they_were(tmp_path):
    path = write_volume(tmp_path / "a.nii.gz")
    turning, plain = reader("SimpleITKIOWithReorient"), reader("SimpleITKIO")
    image, properties = turning.read_images([path])
    assert image.shape[1:] != VOLUME.shape
    threshold = (image[0] > 20).astype(np.uint16)
    turning.write_segmentation(threshold, tmp_path / "mask.nii.gz", properties)
    np.testing.assert_array_equal(plain.read_images([tmp_path / "mask.nii.gz"])[0][0], VOLUME > 20)
    turning.write_segmentation(threshold * 300, tmp_path / "large.nii.gz", properties)  # 44 in nnU-Net
    np.testing.assert_array_equal(plain.read_images([tmp_path / "large.nii.gz"])[0][0], (VOLUME > 20) * 300)


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd", ".png"])
def test_two_dimensional_files_stay_so(tmp_path, ending):
    path = write_volume(tmp_path / f"a{ending}", VOLUME[0] if ending != ".png" else GREY)
    both = check_equal_reading("SimpleITKIO", path)
    (tmp_path / "out").mkdir()
    written = check_equal_writing("SimpleITKIO", LABELS[:1], *both, tmp_path / "out", ending)
    assert sitk.ReadImage(str(written)).GetDimension() == 2


def test_the_fourth_dimension_is_channels(tmp_path):
    image = sitk.JoinSeries([sitk.GetImageFromArray(VOLUME + step) for step in range(3)], 0, 5.0)
    image.SetSpacing((0.7, 1.3, 2.5, 5.0))
    image.SetOrigin((1, 2, 3, 4))
    direction = np.eye(4)
    direction[:3, :3] = ROTATION
    image.SetDirection(direction.ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    properties, _ = check_equal_reading("SimpleITKIO", tmp_path / "a.nii.gz")
    reader("SimpleITKIO").write_segmentation(LABELS, tmp_path / "mask.nii.gz", properties)
    mask = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    np.testing.assert_allclose(mask.GetSpacing(), (0.7, 1.3, 2.5), rtol=1e-6)
    np.testing.assert_allclose(mask.GetOrigin(), (1, 2, 3), rtol=1e-6)
    np.testing.assert_allclose(np.reshape(mask.GetDirection(), (3, 3)), ROTATION, atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), LABELS)


def test_itk_prints_again_when_all_threads_have_read(tmp_path):
    path = write_volume(tmp_path / "a.nii.gz")
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    with ThreadPoolExecutor(4) as pool:
        for image, _ in pool.map(reader("SimpleITKIO").read_images, [[path]] * 20):
            np.testing.assert_array_equal(image[0], VOLUME)
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == before
    assert volumes._quiet_users == 0


# ---- nibabel


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("name", ["NibabelIO", "NibabelIOWithReorient"])
def test_volumes_are_read_and_labelled_as_by_nibabelio(tmp_path, name, ending, direction):
    path = write_volume(tmp_path / f"a_0000{ending}", direction=DIRECTIONS[direction])
    both = check_equal_reading(name, path)
    shape = reader(name).read_images([path])[0].shape[1:]
    labels = np.random.default_rng(1).integers(0, 4, shape).astype(np.uint8)
    (tmp_path / "out").mkdir()
    written = check_equal_writing(name, labels, *both, tmp_path / "out", ending)
    np.testing.assert_allclose(nibabel.load(written).affine, nibabel.load(path).affine, atol=1e-4)
    again, _ = reader(name).read_images([written])
    np.testing.assert_array_equal(again[0], labels)


@pytest.mark.parametrize("name", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"])
def test_scaled_values_are_rounded_alike(tmp_path, name):
    image = nibabel.Nifti1Image(VOLUME.transpose(2, 1, 0), np.diag([1, 2, 3, 1]))
    image.header.set_slope_inter(0.1, -7.3)
    nibabel.save(image, tmp_path / "a.nii")
    check_equal_reading(name, tmp_path / "a.nii")
    assert reader(name).read_images([tmp_path / "a.nii"])[0].max() < 20


# ---- TIFF stacks


@pytest.mark.parametrize("shape", [(4, 6, 8), (1, 6, 8), (3, 6, 8), (6, 8, 3), (2, 1, 5)])
@pytest.mark.parametrize("ending", [".tif", ".tiff"])
@pytest.mark.filterwarnings("ignore:.*are stored as RGB:DeprecationWarning")  # nnU-Net's files
def test_stacks_are_read_and_labelled_as_by_tiff3dio(tmp_path, shape, ending):
    stack = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    tifffile.imwrite(tmp_path / f"a_0000{ending}", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / f"a_0001{ending}", stack * 2, photometric="minisblack", compression="zlib")
    (tmp_path / "a.json").write_text('{"spacing": [3, 0.5, 0.25]}')
    both = check_equal_reading("Tiff3DIO", *(tmp_path / f"a_000{channel}{ending}" for channel in range(2)))
    (tmp_path / "out").mkdir()
    written = check_equal_writing("Tiff3DIO", (stack % 5).astype(np.uint8), *both, tmp_path / "out", ending)
    content = [json.loads((tmp_path / "out" / f"{who}.json").read_text()) for who in ("ours", "theirs")]
    assert content[0] == content[1] == {"spacing": [3, 0.5, 0.25]}
    seg, properties = theirs("Tiff3DIO").read_seg(str(written))
    np.testing.assert_array_equal(seg[0], stack % 5)
    assert properties["spacing"] == [3, 0.5, 0.25]


def test_a_stack_without_a_spacing_is_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, photometric="minisblack")
    with pytest.warns(NnsamWarning, match=r"a.json does not exist, .* 1 x 1 x 1 mm"):
        _, properties = reader("Tiff3DIO").read_images([tmp_path / "a.tif"])
    assert properties["spacing"] == (1, 1, 1)
    for content in ("{", "[]", '{"spacing": [1, 2]}', '{"spacing": [1, 0, 2]}', '{"spacing": [1, true, NaN]}', "{}"):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(InputError, match=r"a\.json"):
            reader("Tiff3DIO").read_images([tmp_path / "a.tif"])


# ---- several files of one image


def test_files_that_do_not_fit_each_other(tmp_path):
    one = write_volume(tmp_path / "a_0000.nii.gz")
    read = reader("SimpleITKIO").read_images
    with pytest.raises(InputError, match=r"a_0001.* shape \(1, 3, 6, 8\) .* a_0000.nii.gz \(1, 4, 6, 8\)"):
        read([one, write_volume(tmp_path / "a_0001.nii.gz", VOLUME[:3])])
    other = write_volume(tmp_path / "a_0001.nii.gz", spacing=(0.7, 1.3, 2.6))
    with pytest.raises(InputError, match=r"spacing 0.7 x 1.3 x 2.6 mm, a_0000.nii.gz 0.7 x 1.3 x 2.5 mm"):
        read([one, other])
    with pytest.raises(RuntimeError):
        theirs("SimpleITKIO").read_images([str(one), str(other)])
    with pytest.raises(InputError, match="spacing"):
        reader("NibabelIO").read_images([one, other])
    flat = write_volume(tmp_path / "b_0000.mha", VOLUME[0])
    with pytest.raises(InputError, match="spacing"):
        read([flat, write_volume(tmp_path / "b_0001.mha", VOLUME[:1])])


@pytest.mark.parametrize("name", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"])
def test_another_position_is_told_and_the_first_one_is_kept(tmp_path, name):
    one = write_volume(tmp_path / "a_0000.nii.gz")
    other = write_volume(tmp_path / "a_0001.nii.gz", VOLUME + 1, origin=(11, -20, 30))
    with pytest.warns(NnsamWarning, match="a_0001.nii.gz and a_0000.nii.gz have different (origin|affine)s"):
        properties, expected = check_equal_reading(name, one, other)
    (tmp_path / "out").mkdir()
    shape = reader(name).read_images([one])[0].shape[1:]
    check_equal_writing(name, np.zeros(shape, np.uint8), properties, expected, tmp_path / "out", ".nii.gz")


@pytest.mark.parametrize("name", ["SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"])
def test_label_maps_keep_both_forms_and_the_unit_of_their_image(tmp_path, name):
    sform, qform = np.diag([-2.0, 3, 4, 1]), np.diag([2.0, -3, 4, 1])
    sform[:3, 3], qform[:3, 3] = (5, 6, 7), (-8, 9, 10)
    image = nibabel.Nifti1Image(VOLUME.transpose(2, 1, 0), sform)
    image.set_sform(sform, code=4)
    image.set_qform(qform, code=1)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "a_0000.nii.gz")
    pixels, properties = reader(name).read_images([tmp_path / "a_0000.nii.gz"])
    reader(name).write_segmentation((pixels[0] > 100).astype(np.uint8), tmp_path / "a.nii.gz", properties)
    mask = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(image.dataobj) > 100)
    for one, other in ((mask.get_sform(coded=True), (sform, 4)), (mask.get_qform(coded=True), (qform, 1))):
        np.testing.assert_allclose(one[0], other[0], atol=1e-5)
        assert one[1] == other[1]
    assert mask.header.get_xyzt_units() == ("mm", "sec")


def test_nearly_equal_spacing_is_equal(tmp_path):
    one = write_volume(tmp_path / "a_0000.mha")
    other = write_volume(tmp_path / "a_0001.mha", spacing=(0.700001, 1.3, 2.5))
    check_equal_reading("SimpleITKIO", one, other)


# ---- bad files

SAMPLES = {
    "NaturalImage2DIO": (".png", ".bmp", ".tif"),
    "SimpleITKIO": (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl"),
    "SimpleITKIOWithReorient": (".nii.gz",),
    "NibabelIO": (".nii.gz", ".nii"),
    "NibabelIOWithReorient": (".nii.gz", ".nii"),
    "Tiff3DIO": (".tif",),
}


def write_sample(path, name):
    noise = np.random.default_rng(0).integers(0, 255, (6, 40, 50)).astype(np.uint8)
    if name == "Tiff3DIO":
        tifffile.imwrite(path, noise, photometric="minisblack", compression="zlib")
    elif name == "NaturalImage2DIO":
        Image.fromarray(noise[0]).save(path)
    else:
        write_volume(path, noise)


@pytest.mark.parametrize(("name", "ending"), [(name, ending) for name, ends in SAMPLES.items() for ending in ends])
@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.6, 0.95])
@pytest.mark.filterwarnings("ignore:.*does not exist, so that:nnsam.errors.NnsamWarning")
def test_cut_off_files_are_told(tmp_path, name, ending, share):
    path = tmp_path / f"a{ending}"
    write_sample(path, name)
    reader(name).read_images([path])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=str(path)) as caught:
        reader(name).read_images([path])
    assert "\n" not in str(caught.value)


def stack_with_pillow(path, stack):
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")


@pytest.mark.parametrize(
    "write",
    [
        stack_with_pillow,
        lambda path, stack: tifffile.imwrite(path, stack, photometric="minisblack"),
        lambda path, stack: tifffile.imwrite(path, stack, photometric="minisblack", compression="zlib", bigtiff=True),
        lambda path, stack: tifffile.imwrite(path, stack, photometric="minisblack", byteorder=">", compression="zlib"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*does not exist, so that:nnsam.errors.NnsamWarning")
def test_stacks_never_lose_their_last_pages(tmp_path, write):
    stack = np.random.default_rng(0).integers(0, 255, (9, 20, 25)).astype(np.uint8)
    path = tmp_path / "a.tif"
    write(path, stack)
    content = path.read_bytes()
    np.testing.assert_array_equal(reader("Tiff3DIO").read_images([path])[0][0], stack)
    for share in np.linspace(0.05, 0.99, 40):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError, match=r"a\.tif"):
            reader("Tiff3DIO").read_images([path])


def test_a_compression_that_needs_a_package_is_told(tmp_path, monkeypatch):
    def fail(self):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    tifffile.imwrite(tmp_path / "a.tif", GREY)
    monkeypatch.setattr(tifffile.TiffFile, "asarray", fail)
    with pytest.raises(SetupError, match="pip install imagecodecs"):
        reader("NaturalImage2DIO").read_images([tmp_path / "a.tif"])


@given(
    st.binary(min_size=1, max_size=600),
    st.sampled_from([(name, end) for name, ends in SAMPLES.items() for end in ends]),
)
def test_arbitrary_bytes_never_raise_anything_else(tmp_path_factory, content, kind):
    name, ending = kind
    path = tmp_path_factory.mktemp("bytes") / f"a{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with pytest.raises(InputError, match="a"):
        reader(name).read_images([path])


def test_wrong_contents_are_told(tmp_path):
    frames = [Image.fromarray(GREY + step) for step in range(3)]
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:])
    Image.fromarray(np.dstack([GREY, GREY]), "LA").save(tmp_path / "alpha.png")
    tifffile.imwrite(tmp_path / "pages.tif", np.zeros((5, 6, 8), np.uint8), photometric="minisblack")
    sitk.WriteImage(sitk.GetImageFromArray(COLOUR, isVector=True), str(tmp_path / "colour.mha"))
    write_volume(tmp_path / "flat.nii.gz", VOLUME[0])
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.uint8), np.eye(4)), tmp_path / "time.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.complex64), np.eye(4)), tmp_path / "complex.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4)), tmp_path / "nan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), 1e300), np.eye(4)), tmp_path / "huge.nii.gz")
    sheared = np.diag([1, 2, 3, 1.0])
    sheared[0, 1] = 0.7
    nibabel.save(nibabel.Nifti1Image(VOLUME.transpose(2, 1, 0), sheared), tmp_path / "sheared.nii.gz")
    tifffile.imwrite(tmp_path / "flat.tif", GREY)
    for name, file, message in (
        ("NaturalImage2DIO", "film.png", "holds 3 pictures; save each"),
        ("NaturalImage2DIO", "alpha.png", r"shape \(6, 8, 2\); expected grey"),
        ("NaturalImage2DIO", "pages.tif", r"shape \(5, 6, 8\); expected grey"),
        ("SimpleITKIO", "colour.mha", "holds 3 values per pixel; expected one"),
        ("SimpleITKIOWithReorient", "flat.nii.gz", "has 2 dimensions; this model reads volumes"),
        ("NibabelIO", "flat.nii.gz", "has 2 dimensions, size .*; expected 3"),
        ("NibabelIOWithReorient", "time.nii.gz", "has 4 dimensions, size .*; expected 3"),
        ("NibabelIO", "complex.nii.gz", "holds complex64 per voxel"),
        ("SimpleITKIO", "complex.nii.gz", "holds complex64 of shape"),
        ("NibabelIO", "nan.nii.gz", "values that are nan or infinite"),
        ("SimpleITKIO", "nan.nii.gz", "values that are nan or infinite"),  # ITK makes them 0
        ("NibabelIO", "huge.nii.gz", "values that are nan or infinite"),
        ("SimpleITKIO", "sheared.nii.gz", "axes that are not perpendicular .* resample it"),
        ("SimpleITKIOWithReorient", "sheared.nii.gz", "axes that are not perpendicular"),
        ("Tiff3DIO", "flat.tif", "has 2 dimensions"),
        ("Tiff3DIO", "film.png", "is no TIFF by its ending"),
        ("SimpleITKIO", "none.nii.gz", "does not exist"),
        ("SimpleITKIO", "", "is a folder"),
    ):
        with pytest.raises(InputError, match=message):
            reader(name).read_images([tmp_path / file])
    check_equal_reading("NibabelIO", tmp_path / "sheared.nii.gz")


# ---- writing goes wrong


@pytest.mark.parametrize(("name", "ending"), [(name, ending) for name, ends in SAMPLES.items() for ending in ends])
@pytest.mark.filterwarnings("ignore:.*does not exist, so that:nnsam.errors.NnsamWarning")
def test_a_full_disk_leaves_no_label_map(tmp_path, name, ending):
    resource = pytest.importorskip("resource")
    path = tmp_path / f"a{ending}"
    write_sample(path, name)
    image, properties = reader(name).read_images([path])
    labels = np.random.default_rng(0).integers(0, 250, image.shape[1:]).astype(np.uint8)
    target = tmp_path / "out" / f"mask{ending}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(InputError, match=f"{target} cannot be written"):
            reader(name).write_segmentation(labels, target, properties)
        with pytest.raises(InputError, match="cannot be written"):
            write_class_probabilities(tmp_path / "out" / "p.npz", np.random.default_rng(0).random((2, 3, 20, 20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in (tmp_path / "out").iterdir() if file.suffix != ".json"] == []
    reader(name).write_segmentation(labels, target, properties)
    assert target.is_file()


def test_formats_that_hold_no_such_labels_are_told(tmp_path):
    write = reader("NaturalImage2DIO").write_segmentation
    labels = np.full((1, 6, 8), 300, np.uint16)
    for name, message in (("a.jpg", "alters pixels"), ("a.bmp", "the label 300, BMP has 8 bits"), ("a.xyz", "a.xyz")):
        with pytest.raises((InputError), match=message):
            write(labels, tmp_path / name, {})
    _, properties = reader("SimpleITKIO").read_images([write_volume(tmp_path / "a.nii.gz")])
    with pytest.raises(InputError, match=r"b.xyz cannot be written"):
        reader("SimpleITKIO").write_segmentation(LABELS, tmp_path / "b.xyz", properties)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_probabilities_are_those_of_nnunets_file(tmp_path):
    probabilities = np.random.default_rng(0).random((3, 4, 6, 8))
    write_class_probabilities(tmp_path / "a.npz", probabilities)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as content:
        assert content.files == ["probabilities"]
        assert content["probabilities"].dtype == np.float32
        np.testing.assert_array_equal(content["probabilities"], probabilities.astype(np.float32))
    with pytest.raises(InputError, match=r"must end with .npz"):
        write_class_probabilities(tmp_path / "a.npy", probabilities)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


# ---- the choice of the reader


def test_every_reader_of_nnunet_is_there():
    from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES

    assert {cls.__name__ for cls in LIST_OF_IO_CLASSES} <= set(READERS)
    for name in READERS:
        assert type(reader(name)).__name__ == type(theirs(name)).__name__ == name
    with pytest.raises(InputError, match=r"reads its images with MyIO, .* known are NaturalImage2DIO, NibabelIO"):
        reader("MyIO")


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError, match="pip install pillow"):
        reader("NaturalImage2DIO")


def test_reading_needs_neither_torch_nor_nnunet(tmp_path):
    write_volume(tmp_path / "a.nii.gz")
    Image.fromarray(GREY).save(tmp_path / "a.png")
    code = (
        "import sys, nnsam.io.finding; from nnsam.io.nnunet_readers import reader, READERS\n"
        "assert not {'SimpleITK', 'nibabel', 'PIL', 'tifffile', 'skimage'} & set(sys.modules)\n"
        "[reader(name) for name in READERS]\n"
        "assert not {'SimpleITK', 'nibabel', 'PIL', 'tifffile', 'skimage'} & set(sys.modules)\n"
        "for name in ('SimpleITKIO', 'NibabelIOWithReorient'): reader(name).read_images([sys.argv[1] + '/a.nii.gz'])\n"
        "reader('NaturalImage2DIO').read_images([sys.argv[1] + '/a.png'])\n"
        "assert not {'torch', 'nnunetv2', 'skimage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


# ---- real data


@pytest.mark.parametrize(
    ("folder", "ending"), [("us_breast_busi", ".png"), ("endo_polyp_kvasir", ".png"), ("mr3d_acdc", ".nii.gz")]
)
def test_real_images(shared, tmp_path, folder, ending):
    path = sorted((shared / "data" / folder / "test").glob("*.npz"))[0]
    with np.load(path, allow_pickle=False) as case:
        pixels, labels = case["imgs"], case["gts"]
        spacing = tuple(map(float, case["spacing"])) if "spacing" in case.files else (1.0, 1.0, 1.0)
    file = tmp_path / f"a_0000{ending}"
    if ending == ".png":
        Image.fromarray(pixels).save(file)
        names, labels = ["NaturalImage2DIO"], labels[None]
    else:
        write_volume(file, pixels, spacing, direction=DIRECTIONS["axis-aligned"])
        names = ["SimpleITKIO", "NibabelIO"]
    for name in names:
        both = check_equal_reading(name, file)
        (tmp_path / name).mkdir()
        written = check_equal_writing(name, labels, *both, tmp_path / name, ending)
        np.testing.assert_array_equal(theirs(name).read_seg(str(written))[0][0], labels)


def test_the_comparison_of_files_notices_a_difference(tmp_path):
    ours = write_volume(tmp_path / "ours.nii.gz", LABELS)
    check_equal_volumes(ours, write_volume(tmp_path / "same.nii.gz", LABELS))
    for other in (
        write_volume(tmp_path / "values.nii.gz", LABELS + 1),
        write_volume(tmp_path / "origin.nii.gz", LABELS, origin=(10, -20, 31)),
        write_volume(tmp_path / "spacing.nii.gz", LABELS, spacing=(0.7, 1.3, 2.6)),
        write_volume(tmp_path / "type.nii.gz", LABELS.astype(np.uint16)),
    ):
        with pytest.raises(AssertionError):
            check_equal_volumes(ours, other)
    assert isinstance(theirs("SimpleITKIO"), SimpleITKIO)
