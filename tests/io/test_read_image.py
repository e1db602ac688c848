"""Every kind of picture and volume comes out as the same pixels; bad ones are named in a sentence."""

import locale

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from nnsam.errors import InputError, NnsamWarning
from nnsam.io.finding import find_images
from nnsam.io.image import decoding

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
VOLUME = (np.arange(4 * 6 * 8) - 50).astype(np.int16).reshape(4, 6, 8)


def read(path):
    (file,) = find_images(path)
    return file.read()


def check(image, pixels, dimensions=2, spacing=None):
    np.testing.assert_array_equal(image.pixels, pixels)
    assert (image.pixels.dtype, image.dimensions, image.spacing) == (pixels.dtype, dimensions, spacing)


def itk(array, spacing, is_vector=False):
    image = sitk.GetImageFromArray(array, isVector=is_vector)
    image.SetSpacing(spacing)
    image.SetOrigin([10.0 * (axis + 1) for axis in range(image.GetDimension())])
    return image


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "PNG"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR, GREY[:1, :1]])
def test_pictures_keep_their_pixels(tmp_path, ending, pixels):
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}")
    check(read(tmp_path / f"a.{ending}"), pixels)


def test_sixteen_bit_and_float_pictures_keep_their_values(tmp_path):
    deep = GREY.astype(np.uint16) * 250
    Image.fromarray(deep).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", deep)
    tifffile.imwrite(tmp_path / "c.tif", GREY.astype(np.float32) / 7)
    tifffile.imwrite(tmp_path / "d.tif", deep, byteorder=">")
    for name in ("a.png", "b.tif", "d.tif"):
        image = read(tmp_path / name)
        np.testing.assert_array_equal(image.pixels, deep)
        assert image.pixels.dtype.isnative
    check(read(tmp_path / "c.tif"), GREY.astype(np.float32) / 7)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_alpha_is_dropped_not_mixed_in(tmp_path, ending):
    alpha = np.full(GREY.shape, 7, np.uint8)
    Image.fromarray(np.dstack([COLOUR, alpha])).save(tmp_path / f"a.{ending}")
    Image.fromarray(np.dstack([GREY, alpha]), "LA").save(tmp_path / f"b.{ending}")
    check(read(tmp_path / f"a.{ending}"), COLOUR)
    check(read(tmp_path / f"b.{ending}"), GREY)


@pytest.mark.parametrize("options", [{}, {"transparency": b"\x00\x80"}])
@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_palettes_become_colours(tmp_path, ending, options):
    picture = Image.fromarray((GREY > 100).astype(np.uint8), "P")
    picture.putpalette([200, 10, 30, 0, 90, 255])
    picture.save(tmp_path / f"a.{ending}", **(options if ending == "png" else {}))
    expected = np.where((GREY > 100)[..., None], [0, 90, 255], [200, 10, 30]).astype(np.uint8)
    check(read(tmp_path / f"a.{ending}"), expected)


def test_black_and_white_pictures_are_the_same_in_either_polarity(tmp_path):
    mask = GREY > 100
    Image.fromarray(mask).save(tmp_path / "a.png")
    expected = np.where(mask, 255, 0).astype(np.uint8)
    check(read(tmp_path / "a.png"), expected)
    tifffile.imwrite(tmp_path / "b.tif", 255 - GREY, photometric="miniswhite")
    check(read(tmp_path / "b.tif"), GREY)


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk_becomes_rgb(tmp_path, ending):
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(tmp_path / f"a.{ending}")
    pixels = read(tmp_path / f"a.{ending}").pixels
    assert pixels.shape == (6, 8, 3)
    assert (pixels[..., 0] > 200).all()
    assert (pixels[..., 1:] < 60).all()


def test_colour_files_without_colour_are_grey(tmp_path):
    Image.fromarray(np.dstack([GREY] * 3)).save(tmp_path / "a.png")
    check(read(tmp_path / "a.png"), GREY)
    sitk.WriteImage(itk(np.stack([VOLUME] * 3, axis=-1), (1, 2, 3), True), str(tmp_path / "b.nrrd"))
    check(read(tmp_path / "b.nrrd"), VOLUME, 3, (3, 2, 1))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_pages_are_slices(tmp_path, compression):
    pages = [Image.fromarray(GREY + step) for step in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
    check(read(tmp_path / "a.tif"), np.stack([GREY, GREY + 1, GREY + 2]), 3)


def test_stacks_of_three_or_four_slices_are_no_colours(tmp_path):
    for depth in (3, 4):
        stack = np.stack([GREY] * depth) + np.arange(depth, dtype=np.uint8)[:, None, None]
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        check(read(tmp_path / "a.tif"), stack, 3)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate")
    check(read(tmp_path / "a.tif"), COLOUR)


def test_a_stack_that_lost_its_last_pages_is_no_picture(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 60, 80), np.uint8), compression="zlib", photometric="minisblack")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.tif is cut off or damaged"):
        read(tmp_path / "a.tif")


def test_exif_rotation_is_told_and_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    with pytest.warns(NnsamWarning, match="not applied"):
        check(read(tmp_path / "a.png"), GREY)


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha", "mhd"])
def test_volumes_keep_axes_and_geometry(tmp_path, ending):
    sitk.WriteImage(itk(VOLUME, (0.5, 0.75, 4.0)), str(tmp_path / f"a.{ending}"))
    image = read(tmp_path / f"a.{ending}")
    check(image, VOLUME, 3, (4.0, 0.75, 0.5))
    assert image.geometry.origin == (10, 20, 30)
    sitk.WriteImage(itk(GREY, (0.5, 0.75)), str(tmp_path / f"a.{ending}"))
    check(read(tmp_path / f"a.{ending}"), GREY, 2, (0.75, 0.5))


def test_single_slices_are_pictures_that_know_their_files_shape(tmp_path):
    sitk.WriteImage(itk(GREY[None], (0.5, 0.75, 4.0)), str(tmp_path / "a.nii.gz"))
    image = read(tmp_path / "a.nii.gz")
    check(image, GREY, 2, (0.75, 0.5))
    assert image.file_shape == (1, 6, 8)
    sitk.WriteImage(sitk.JoinSeries([itk(VOLUME, (1, 2, 3))]), str(tmp_path / "b.nii.gz"))  # 4D of one time point
    check(read(tmp_path / "b.nii.gz"), VOLUME, 3, (3, 2, 1))


def write_series(folder, volume=VOLUME, uid="1.2.3", skip=()):
    folder.mkdir(exist_ok=True)
    before = locale.setlocale(locale.LC_ALL)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, pixels in enumerate(volume):
        image = sitk.GetImageFromArray(pixels[None])
        image.SetSpacing((0.5, 0.75, 4.0))
        tags = {"0008|0060": "CT", "0020|000e": uid, "0020|000d": "1.2", "0020|0013": str(index)}
        tags |= {"0008|0018": f"{uid}.{index}", "0020|0032": f"1\\2\\{4 * index + 3}", "0018|0050": "4"}
        tags |= {"0020|0037": "1\\0\\0\\0\\1\\0", "0020|0052": "1.9"}
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}_{9 - index}.dcm"))  # names against the order
        if index not in skip:
            writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)  # writing DICOM resets it, and Python then takes text files for ASCII


def test_dicom_series_are_ordered_by_position(tmp_path):
    write_series(tmp_path / "series")
    image = read(tmp_path / "series")
    assert image.spacing == pytest.approx((4.0, 0.75, 0.5))
    assert image.geometry.origin == (1, 2, 3)
    np.testing.assert_array_equal(image.pixels, VOLUME)
    (file,) = find_images(tmp_path)  # a folder of series
    assert (file.case, file.kind) == ("series", "series")
    assert read(tmp_path / "series" / "1.2.3_9.dcm").pixels.shape == (6, 8)


def test_reading_dicom_leaves_the_locale_alone(tmp_path):
    write_series(tmp_path)
    before = locale.setlocale(locale.LC_ALL)
    read(tmp_path)
    read(tmp_path / "1.2.3_9.dcm")
    assert locale.setlocale(locale.LC_ALL) == before


def test_dicom_names_need_no_ending(tmp_path):
    write_series(tmp_path)
    for path in list(tmp_path.glob("*.dcm")):
        path.rename(path.with_suffix(""))
    np.testing.assert_array_equal(read(tmp_path).pixels, VOLUME)


@pytest.mark.parametrize("ending", [".dcm", ""])
def test_a_damaged_slice_is_named_and_not_left_out(tmp_path, ending):
    write_series(tmp_path)
    (tmp_path / "notes").write_text("short")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    path = tmp_path / f"1.2.3_9{ending}"
    (tmp_path / "1.2.3_9.dcm").rename(path)
    assert read(tmp_path).shape == (4, 6, 8)
    path.write_bytes(path.read_bytes()[:-60])  # GDCM skips it, and the rest is evenly spaced
    with pytest.raises(InputError, match=r"1\.2\.3_9.* is damaged"):
        read(tmp_path)


def test_missing_slices_are_told(tmp_path):
    volume = np.concatenate([VOLUME, VOLUME])
    write_series(tmp_path / "a", volume, skip={3, 4, 5})
    with pytest.warns(NnsamWarning, match=r"slices are missing between 8 and 24 mm \(3 missing\)"):
        assert read(tmp_path / "a").shape == (5, 6, 8)


def test_several_series_are_listed(tmp_path):
    write_series(tmp_path)
    write_series(tmp_path, VOLUME[:2], uid="1.2.4")
    with pytest.raises(
        InputError,
        match=r"holds 2 DICOM series: 1.2.3 \(CT, 4 images\); 1.2.4 \(CT, 2 images\); choose one with --series",
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "pixels", "dimensions", "spacing"),
    [
        ({"imgs": GREY, "boxes": [[0, 0, 1, 1]]}, GREY, 2, None),
        ({"imgs": COLOUR, "boxes": [[0, 0, 1, 1]]}, COLOUR, 2, None),
        ({"imgs": COLOUR, "boxes": [[0, 0, 0, 1, 1, 1]]}, COLOUR, 3, None),
        ({"imgs": COLOUR, "gts": COLOUR}, COLOUR, 3, None),
        ({"imgs": COLOUR}, COLOUR, 2, None),
        ({"imgs": VOLUME, "spacing": [1.0, 2.0, 3.0], "boxes": [[0, 0, 1, 1]]}, VOLUME, 3, (3, 2, 1)),
        ({"imgs": GREY, "spacing": [1.0, 2.0, 3.0]}, GREY, 2, (2, 1)),
        ({"imgs": VOLUME[:1], "boxes": [[0, 0, 0, 1, 1, 0]]}, VOLUME[:1], 3, None),
        ({"imgs": VOLUME[:1]}, VOLUME[0], 2, None),
    ],
)
def test_challenge_files_are_pictures_or_volumes(tmp_path, arrays, pixels, dimensions, spacing):
    np.savez(tmp_path / "a.npz", **arrays)
    image = read(tmp_path / "a.npz")
    check(image, pixels, dimensions, spacing)
    assert (image.boxes is None) == ("boxes" not in arrays)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"gts": GREY}, "lacks the key imgs"),
        ({"imgs": np.array([{}])}, "pickled Python objects"),
        ({"imgs": GREY, "boxes": np.array([None, [1]], object)}, "pickled Python objects"),
        ({"imgs": GREY[0]}, r"shape \(8,\)"),
        ({"imgs": np.zeros((2, 2, 2, 2))}, "shape"),
        ({"imgs": np.array([["a"]])}, "must hold numbers"),
        ({"imgs": np.zeros((0, 3))}, "must hold numbers"),
        ({"imgs": GREY * 1j}, "complex"),
        ({"imgs": np.full((2, 2), np.nan)}, "nan or infinite"),
    ],
)
def test_bad_challenge_files_are_named(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a.npz")


def test_images_with_more_axes_or_channels_are_named(tmp_path):
    sitk.WriteImage(sitk.JoinSeries([itk(VOLUME, (1, 2, 3))] * 2), str(tmp_path / "a.nii.gz"))
    with pytest.raises(InputError, match=r"has 4 dimensions, size \(8, 6, 4, 2\)"):
        read(tmp_path / "a.nii.gz")
    sitk.WriteImage(itk(COLOUR[..., :2], (1, 2), True), str(tmp_path / "b.nrrd"))
    with pytest.raises(InputError, match="2 values per pixel"):
        read(tmp_path / "b.nrrd")
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((2, 3, 6, 8), np.uint8), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(InputError, match=r"4 dimensions \(TZYX\)"):
        read(tmp_path / "c.tif")
    with tifffile.TiffWriter(tmp_path / "d.tif") as tiff:
        tiff.write(GREY)
        tiff.write(GREY[:3])
    with pytest.raises(InputError, match="different sizes"):
        read(tmp_path / "d.tif")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.npz"])
@pytest.mark.parametrize("damage", ["empty", "text", "half", "head", "noise"])
def test_damaged_files_are_one_sentence(tmp_path, name, damage):
    path = tmp_path / name
    large = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    if name.endswith(("png", "jpg", "bmp", "tif")):
        Image.fromarray(large).save(path)
    elif name.endswith("npz"):
        np.savez(path, imgs=large, boxes=[[0, 0, 1, 1]])
    else:
        sitk.WriteImage(itk(large, (1, 1)), str(path))
    whole = path.read_bytes()
    noise = bytearray(whole)
    noise[4:60] = b"\xff" * 56
    content = {"empty": b"", "text": b"hello", "half": whole[: len(whole) // 2], "head": whole[:30], "noise": noise}
    path.write_bytes(bytes(content[damage]))
    with pytest.raises(InputError) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_any_decoders_error_becomes_a_sentence_but_not_an_interruption(tmp_path):
    with pytest.raises(InputError, match=r"x cannot be read \(KeyError\)"), decoding("x"):
        raise KeyError
    with pytest.raises(KeyboardInterrupt), decoding("x"):
        raise KeyboardInterrupt


def test_folders_list_images_and_leave_the_rest_alone(tmp_path):
    for name in ("b.png", "a.jpg", "c_0000.nii.gz", "d_0000.npz", ".hidden.png", "notes.txt", "dataset.json"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    files = find_images(tmp_path)
    assert [file.path.name for file in files] == ["a.jpg", "b.png", "c_0000.nii.gz", "d_0000.npz"]
    assert [file.case for file in files] == ["a", "b", "c", "d_0000"]


def test_places_without_images_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_images(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no images"):
        find_images(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(InputError, match="holds no images"):
        find_images(tmp_path)
    with pytest.raises(InputError, match="unknown ending"):
        find_images(tmp_path / "a.txt")
    write_series(tmp_path, VOLUME[:2])
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"beside a\.png"):
        find_images(tmp_path)


# ---- TIFF


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_tiffs_are_read_alike_whatever_their_compression(tmp_path, compression, orientation, photometric):
    for name, pixels in (("a", GREY), ("b", GREY.astype(np.uint16) * 200), ("c", GREY.astype(np.float32))):
        if photometric == "miniswhite" and pixels.dtype.kind == "f":
            continue
        white = {"u": np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 0}.get(pixels.dtype.kind, 0)
        stored = white - pixels if photometric == "miniswhite" else pixels
        path = tmp_path / f"{name}.tif"
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, stored, photometric=photometric, compression=compression, extratags=tags)
        if orientation == 1:
            check(read(path), pixels)
        else:
            with pytest.warns(NnsamWarning, match="carries a rotation, which is not applied"):
                check(read(path), pixels)


def test_tiffs_of_one_bit_are_black_and_white(tmp_path):
    mask = np.resize(GREY > 100, (6, 16))
    for photometric, stored in (("minisblack", mask), ("miniswhite", ~mask)):
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric)
        check(read(tmp_path / "a.tif"), np.where(mask, 255, 0).astype(np.uint8))
    for compression in ("group3", "group4"):
        Image.fromarray(mask).save(tmp_path / "a.tif", compression=compression)
        check(read(tmp_path / "a.tif"), np.where(mask, 255, 0).astype(np.uint8))


def test_white_of_signed_numbers_is_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.int16) - 50, photometric="miniswhite")
    with pytest.warns(NnsamWarning, match="0 is white, but int16 has no black"):
        check(read(tmp_path / "a.tif"), GREY.astype(np.int16) - 50)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", None])
def test_colour_tiffs_are_close_to_what_pillow_reads(tmp_path, compression):
    smooth = np.stack(np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 48)), -1)
    colours = np.dstack([smooth, 255 - smooth[..., :1]]).astype(np.uint8)
    Image.fromarray(colours).save(
        tmp_path / "a.tif", compression=compression, **({"quality": 95} if compression == "jpeg" else {})
    )
    expected = np.asarray(Image.open(tmp_path / "a.tif"))
    assert np.abs(read(tmp_path / "a.tif").pixels.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("scale", [1, 257])
def test_palettes_of_tiffs_may_hold_8_or_16_bits(tmp_path, scale):
    colours = np.random.default_rng(0).integers(0, 256, (256, 3))
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=(colours.T * scale).astype(np.uint16))
    check(read(tmp_path / "a.tif"), colours[GREY].astype(np.uint8))


def test_other_colours_of_tiffs_are_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", COLOUR, photometric="cielab")
    with pytest.raises(InputError, match=r"holds colours as CIELAB; expected grey, RGB"):
        read(tmp_path / "a.tif")


# ---- names


@pytest.mark.parametrize(
    ("names", "cases"),
    [
        (["frame_0000.png", "frame_0001.png", "frame_0002.png"], ["frame_0000", "frame_0001", "frame_0002"]),
        (["a_0000.png", "b_0000.png"], ["a", "b"]),
        (["a_0000.png", "b.png"], ["a_0000", "b"]),
        (["a_0000.PNG"], ["a"]),
        (["a_0000.png", "b.tif"], ["a", "b"]),
        (["_0000.png"], ["_0000"]),
    ],
)
def test_the_number_of_the_only_channel_is_no_part_of_the_name(tmp_path, names, cases):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert [file.case for file in find_images(tmp_path)] == cases
    assert [find_images(tmp_path / name)[0].case for name in sorted(names)] == cases
