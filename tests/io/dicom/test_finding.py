"""Which files of a folder are which image, and that none is left out unsaid."""

import warnings

import numpy as np
import pytest
from helpers.dicom_files import CR, ULTRASOUND, ULTRASOUND_FILM, make_dicom, write_dicom, write_slices

from nnsam.errors import InputError, NnsamWarning, SetupError
from nnsam.io import find_images, read_image, write_image
from nnsam.io.image import Image

pydicom = pytest.importorskip("pydicom")
VOLUME = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
RADIOGRAPH = {"position": None, "sop_class": CR, "modality": "CR"}


def names(folder, **options):
    return [file.case for file in find_images(folder, **options)]


def quietly(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NnsamWarning)
        return file.read()


def test_folders_are_walked_to_any_depth(tmp_path):
    write_slices(tmp_path / "P1", VOLUME, series="1.1")
    write_slices(tmp_path / "P2" / "study" / "CT thorax", VOLUME, series="1.2")
    write_slices(tmp_path / ".hidden", VOLUME, series="1.3")
    (tmp_path / "loop").symlink_to(tmp_path)
    files = find_images(tmp_path)
    assert [file.case for file in files] == ["P1", "P2_study_CT thorax"]
    assert all(quietly(file).shape == (3, 4, 5) for file in files)


def test_a_series_cut_into_folders_is_one_and_copies_are_not(tmp_path):
    write_slices(tmp_path / "a", VOLUME, series="1.1")
    write_slices(tmp_path / "b", VOLUME + 60, series="1.1", positions=[(0, 0, 7.5), (0, 0, 10), (0, 0, 12.5)])
    (file,) = find_images(tmp_path)
    np.testing.assert_array_equal(quietly(file).pixels, np.concatenate([VOLUME, VOLUME + 60]))
    write_slices(tmp_path / "c", VOLUME, series="1.1")
    assert names(tmp_path) == ["a", "b", "c"]


def test_several_series_are_listed_and_one_is_chosen(tmp_path):
    write_slices(tmp_path, VOLUME, series="1.2.3", SeriesDescription="Thorax")
    more = [f"b{index}" for index in range(3)]
    write_slices(tmp_path, VOLUME + 1, series="1.2.4", names=more, patient="P2")
    with pytest.raises(InputError, match=r"2 DICOM series: 1.2.3 \(CT, Thorax, patient P1 Test, 3 images\); 1.2.4"):
        find_images(tmp_path)
    with pytest.raises(InputError, match="--series UID"):
        read_image(tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path, series="1.2.4").pixels, VOLUME + 1)
    (file,) = find_images(tmp_path, series="1.2.3")
    np.testing.assert_array_equal(file.read().pixels, VOLUME)
    for wrong in ("1.2", "1.2.30", "x"):
        with pytest.raises(InputError, match=rf"holds no series {wrong}; it holds 2 DICOM series: 1.2.3"):
            find_images(tmp_path, series=wrong)


def test_a_patient_with_several_series_fails_alone_in_a_batch(tmp_path):
    write_slices(tmp_path / "P1", VOLUME, series="1.1")
    write_slices(tmp_path / "P2", VOLUME, series="1.2")
    write_slices(tmp_path / "P2", VOLUME, series="1.3", names=list("abc"))
    good, bad = find_images(tmp_path)
    assert good.read().shape == (3, 4, 5)
    with pytest.raises(InputError, match="P2 holds 2 DICOM series"):
        bad.read()


def test_radiographs_are_taken_one_by_one(tmp_path):
    for index in range(3):
        write_dicom(tmp_path / f"P{index}.dcm", VOLUME[index], patient=str(index), study=f"1.{index}", **RADIOGRAPH)
    files = find_images(tmp_path)
    assert [file.case for file in files] == ["P0", "P1", "P2"]
    for file, expected in zip(files, VOLUME, strict=True):
        np.testing.assert_array_equal(quietly(file).pixels, expected)
    # Slices that are the only ones of their series are pictures, too.
    for index in range(3):
        write_dicom(tmp_path / "slices" / f"S{index}", VOLUME[index], series=f"1.{index}")
    assert names(tmp_path / "slices") == ["S0", "S1", "S2"]


def test_what_is_no_image_is_told_and_what_is_damaged_is_an_error(tmp_path):
    write_slices(tmp_path / "a", VOLUME)
    structures = make_dicom(VOLUME[0], sop_class="1.2.840.10008.5.1.4.1.1.481.3", modality="RTSTRUCT")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(structures, name)
    structures.save_as(tmp_path / "a" / "RS.dcm", enforce_file_format=True)
    (tmp_path / "a" / "._IM0000.dcm").write_bytes(b"\0\5\x16\7" + b"\0" * 60)
    (tmp_path / "a" / "readme.txt").write_text("not an image")
    (tmp_path / "a" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.warns(NnsamWarning, match=r"left out, as it is no image: RS.dcm"):
        assert read_image(tmp_path / "a").shape == (3, 4, 5)
    with pytest.raises(InputError, match=r"RS.dcm is a DICOM object, but no image"):
        read_image(tmp_path / "a" / "RS.dcm")
    (tmp_path / "a" / "IM9.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"rubbish" * 9)
    with pytest.raises(InputError, match=r"IM9.dcm"):
        find_images(tmp_path / "a")


def test_other_formats_among_dicom_folders_are_named(tmp_path):
    write_slices(tmp_path / "P1", VOLUME)
    (tmp_path / "P2").mkdir()
    write_image(tmp_path / "P2" / "a.png", Image(VOLUME[0].astype(np.uint8), 2))
    good, bad = find_images(tmp_path)
    assert good.case == "P1"
    with pytest.raises(InputError, match=r"P2 holds a.png and is left out"):
        bad.read()
    write_image(tmp_path / "P1" / "a.png", Image(VOLUME[0].astype(np.uint8), 2))
    with pytest.raises(InputError, match=r"holds DICOM files \(IM0000.dcm\) beside a.png"):
        find_images(tmp_path / "P1")


def test_files_without_ending_are_recognised(tmp_path):
    path = write_dicom(tmp_path / "IM0001", VOLUME[0])
    np.testing.assert_array_equal(read_image(path).pixels, VOLUME[0])
    (file,) = find_images(path)
    assert (file.case, file.kind) == ("IM0001", "dicom")
    data = make_dicom(VOLUME[0])
    del data.file_meta
    data.save_as(tmp_path / "bare", implicit_vr=True, little_endian=True)  # without preamble
    content = (tmp_path / "bare").read_bytes()
    assert content[128:132] != b"DICM"
    np.testing.assert_array_equal(read_image(tmp_path / "bare").pixels, VOLUME[0])
    write_image(tmp_path / "a.png", Image(VOLUME[0].astype(np.uint8), 2))
    (tmp_path / "a.png").rename(tmp_path / "picture.1234")
    assert find_images(tmp_path / "picture.1234")[0].case == "picture.1234"
    np.testing.assert_array_equal(read_image(tmp_path / "picture.1234").pixels, VOLUME[0])


@pytest.mark.parametrize(
    ("tags", "spacing", "told"),
    [
        ({"spacing": (0.5, 0.25)}, (0.5, 0.25), None),
        ({"spacing": (0.5, 0.25), "ImagerPixelSpacing": [0.6, 0.3]}, (0.5, 0.25), None),
        ({"spacing": None, "ImagerPixelSpacing": [0.6, 0.3]}, (0.6, 0.3), "at the detector only"),
        (
            {"spacing": None, "ImagerPixelSpacing": [0.6, 0.3], "EstimatedRadiographicMagnificationFactor": 1.2},
            (0.5, 0.25),
            None,
        ),
        ({"spacing": None, "NominalScannedPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), None),
        ({"spacing": None, "PixelAspectRatio": [2, 1]}, None, "no pixel size"),
        ({"spacing": None}, None, "no pixel size"),
    ],
)
def test_pixel_size_of_radiographs(tmp_path, tags, spacing, told):
    path = write_dicom(tmp_path / "a.dcm", VOLUME[0], **{**RADIOGRAPH, **tags})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        image = read_image(path)
    assert image.spacing == (None if spacing is None else pytest.approx(spacing))
    assert [told in str(one.message) for one in found] == ([True] if told else [])


def region(units=3, kind=1, **deltas):
    data = pydicom.Dataset()
    data.RegionSpatialFormat, data.RegionDataType = 1, kind
    data.PhysicalUnitsXDirection = data.PhysicalUnitsYDirection = units
    data.PhysicalDeltaX, data.PhysicalDeltaY = deltas.get("x", 0.01), deltas.get("y", 0.02)
    return data


@pytest.mark.parametrize(
    ("regions", "spacing"),
    [
        ([region()], (0.2, 0.1)),
        ([region(), region()], (0.2, 0.1)),
        ([region(), region(kind=3, units=4)], (0.2, 0.1)),  # a spectrum over time beside the picture
        ([region(), region(x=0.02)], None),
        ([region(units=0)], None),
    ],
)
def test_pixel_size_of_ultrasound(tmp_path, regions, spacing):
    options = {"position": None, "spacing": None, "sop_class": ULTRASOUND, "modality": "US"}
    path = write_dicom(tmp_path / "a.dcm", VOLUME[0], SequenceOfUltrasoundRegions=regions, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NnsamWarning)
        assert read_image(path).spacing == (None if spacing is None else pytest.approx(spacing))


def test_films_are_stacks_of_unknown_spacing(tmp_path):
    options = {"position": None, "sop_class": ULTRASOUND_FILM, "modality": "US"}
    path = write_dicom(tmp_path / "a.dcm", VOLUME.astype(np.uint8), **options)
    with pytest.warns(NnsamWarning, match="3 frames without positions"):
        image = read_image(path)
    assert (image.spacing, image.dicom.frames) == (None, (1, 2, 3))
    np.testing.assert_array_equal(image.pixels, VOLUME)


def test_without_pydicom_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    import sys

    write_slices(tmp_path, VOLUME)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for read in (read_image, find_images):
        with pytest.raises(SetupError, match=r"needs? the package .*; run.*: pip install "):
            read(tmp_path)
