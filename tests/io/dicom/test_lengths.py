"""Headers that announce other pixels than a file holds; what was encoded is the measure."""

import warnings

import numpy as np
import pytest
from helpers.dicom_files import CR, make_dicom, write_dicom, write_slices

from nnsam.errors import InputError
from nnsam.io import read_image, read_labels
from nnsam.io.dicom.lengths import check_pixel_data

pydicom = pytest.importorskip("pydicom")
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 4000, (64, 80)).astype(np.uint16)
CODECS = ("RLELossless", "JPEG2000Lossless", "JPEGLSLossless", "JPEGLosslessSV1")


def compressed(pixels, codec, **options):
    """A data set of one frame or several, compressed without loss."""
    data = make_dicom(pixels, bits=12, position=None, sop_class=CR, modality="CR", **options)
    if codec != "JPEGLosslessSV1":
        data.compress(getattr(pydicom.uid, codec))
        return data
    codecs = pytest.importorskip("imagecodecs")
    frames = pixels.reshape(-1, *pixels.shape[-2:])
    data.PixelData = pydicom.encaps.encapsulate([codecs.ljpeg_encode(one, bitspersample=12) for one in frames])
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    return data


def save(path, data, **tags):
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("codec", CODECS)
def test_what_a_header_says_rightly_is_read(tmp_path, codec):
    stack = np.stack([PIXELS, PIXELS // 2, PIXELS // 3])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.dcm", compressed(PIXELS, codec))).pixels, PIXELS)
    with pytest.warns(match="frames without positions"):
        found = read_image(save(tmp_path / "b.dcm", compressed(stack, codec))).pixels
    np.testing.assert_array_equal(found, stack)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "tags", [{"Rows": 640}, {"Rows": 65}, {"Rows": 63}, {"Columns": 81}, {"Columns": 40}, {"Rows": 80, "Columns": 64}]
)
def test_compressed_frames_of_another_size_are_refused(tmp_path, codec, tags):
    """Decoders fill up what a frame lacks with whatever was in memory, or give the part that fits."""
    if codec == "RLELossless" and PIXELS.size == tags.get("Rows", 64) * tags.get("Columns", 80):
        pytest.skip("RLE stores no rows and columns")
    path = save(tmp_path / "a.dcm", compressed(PIXELS, codec), **tags)
    with pytest.raises(InputError, match=r"a\.dcm .*(again|decoded)"):
        read_image(path)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("frames", [1, 2, 4, 400, 2**31 - 1])
def test_another_number_of_compressed_frames_is_refused(tmp_path, codec, frames):
    stack = np.stack([PIXELS, PIXELS // 2, PIXELS // 3])
    path = save(tmp_path / "a.dcm", compressed(stack, codec), NumberOfFrames=frames)
    with pytest.raises(InputError, match=r"a\.dcm"):
        read_image(path)


@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.parametrize("bits", [8, 32])
def test_values_of_another_width_are_refused(tmp_path, codec, bits):
    """A decoder gave 12 bits modulo 256 for 8, and ended the process for 32."""
    path = save(tmp_path / "a.dcm", compressed(PIXELS, codec), BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1)
    with pytest.raises(InputError, match=f"allots {bits} bits per value, and frame 1 has 1[26]"):
        read_image(path)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_frame_that_is_cut_off_is_refused(tmp_path, codec):
    data = compressed(PIXELS, codec)
    stream = pydicom.encaps.get_frame(data.PixelData, 0, number_of_frames=1)
    data.PixelData = pydicom.encaps.encapsulate([stream[: len(stream) // 2]])
    with pytest.raises(InputError, match="frame 1 is cut off"):
        read_image(save(tmp_path / "a.dcm", data))


@pytest.mark.parametrize(
    "tags",
    [
        *({"Rows": rows} for rows in (63, 65, 65535)),
        *({"Columns": columns} for columns in (78, 82, 65535)),
        *({"NumberOfFrames": frames} for frames in (2, 2**31 - 1)),
        {"SamplesPerPixel": 3},
        {"BitsAllocated": 32},
        {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
        {"Rows": 0},
        {"NumberOfFrames": -1},
    ],
)
def test_uncompressed_pixels_of_another_number_are_refused(tmp_path, tags):
    path = save(tmp_path / "a.dcm", make_dicom(PIXELS, bits=12), **tags)
    with pytest.raises(InputError, match=r"a\.dcm"):
        read_image(path)


def test_padding_of_less_than_a_row_is_let_pass(tmp_path):
    data = make_dicom(PIXELS, bits=12)
    data.PixelData += b"\0" * 10
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.dcm", data)).pixels, PIXELS)


def test_no_pixels_and_two_kinds_of_pixels_are_refused():
    data = make_dicom(PIXELS)
    data.FloatPixelData = PIXELS.astype("<f4").tobytes()
    with pytest.raises(ValueError, match="PixelData and FloatPixelData"):
        check_pixel_data(data)
    del data.PixelData, data.FloatPixelData
    with pytest.raises(ValueError, match="has none"):
        check_pixel_data(data)


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelSpacing": ["nan", "1"]},
        {"PixelSpacing": ["0", "0"]},
        {"PixelSpacing": ["inf", "1"]},
        {"PixelSpacing": ["-1", "1"]},
        {"PixelSpacing": "1"},
        {"ImagePositionPatient": ["nan", "0", "0"]},
        {"ImagePositionPatient": ["0", "0"]},
        {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]},
        {"ImageOrientationPatient": ["0", "0", "0", "0", "0", "0"]},
        {"ImageOrientationPatient": ["nan", "0", "0", "0", "1", "0"]},
        {"RescaleSlope": "nan", "RescaleIntercept": "0"},
        {"RescaleSlope": "1e999999999", "RescaleIntercept": "0"},
        {"RescaleSlope": "0", "RescaleIntercept": "0"},
        {"RescaleSlope": "1e309", "RescaleIntercept": "0"},
        {"RescaleSlope": "1e-999999999", "RescaleIntercept": "0"},
    ],
)
def test_places_and_scales_that_are_no_numbers_are_refused(tmp_path, tags):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's about such values
        path = save(tmp_path / "a.dcm", make_dicom(PIXELS, bits=12), **tags)
        with pytest.raises(InputError, match=r"a\.dcm"):
            read_image(path)


def test_a_series_is_measured_as_a_whole(tmp_path, monkeypatch):
    write_slices(tmp_path, np.zeros((5, 6, 8), np.int16))
    monkeypatch.setenv("NNSAM_MAX_VOXELS", "240")
    assert read_image(tmp_path).shape == (5, 6, 8)
    monkeypatch.setenv("NNSAM_MAX_VOXELS", "239")
    with pytest.raises(InputError, match=r"5 x 6 x 8 x 1 values, .* limit of 239"):
        read_image(tmp_path)


def test_segmentations_are_measured_too(tmp_path):
    pytest.importorskip("highdicom")
    from nnsam.io import write_labels

    image = read_image(write_dicom(tmp_path / "a.dcm", PIXELS, bits=12))
    write_labels(tmp_path / "seg.dcm", image.with_pixels((PIXELS > 2000).astype(np.uint8)))
    assert read_labels(tmp_path / "seg.dcm").pixels.sum() == (PIXELS > 2000).sum()
    data = pydicom.dcmread(tmp_path / "seg.dcm")
    for name, value in (("Rows", 48), ("Rows", 12), ("NumberOfFrames", 2), ("Columns", 60000)):
        before = data.get(name)
        save(tmp_path / "wrong.dcm", data, **{name: value})
        with pytest.raises(InputError, match=r"wrong\.dcm"):
            read_labels(tmp_path / "wrong.dcm")
        setattr(data, name, before)


def test_a_deflated_data_set_is_measured_before_it_is_inflated(tmp_path, monkeypatch):
    data = make_dicom(np.zeros((64, 80), np.uint16), bits=12)
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    path = save(tmp_path / "a.dcm", data)
    assert read_image(path).shape == (64, 80)
    monkeypatch.setattr("nnsam.io.dicom.lengths._HEADER_BYTES", 1000)
    monkeypatch.setenv("NNSAM_MAX_VOXELS", "1000")
    monkeypatch.setattr(pydicom, "dcmread", None)
    with pytest.raises(InputError, match="inflates to more than 9000 bytes"):
        read_image(path)


def test_values_of_another_type_than_their_tag_s_are_told(tmp_path):
    """pydicom interprets a value when it is asked for, long after the file was read."""
    content = write_dicom(tmp_path / "a.dcm", PIXELS, bits=12).read_bytes()
    place = content.index(b"\x08\x00\x16\x00UI")  # SOP Class UID
    for kind in (b"US", b"FD", b"AT", b"SQ", b"IS", b"DS", b"??"):
        (tmp_path / "b.dcm").write_bytes(content[: place + 4] + kind + content[place + 6 :])
        for read in (read_image, read_labels):
            try:
                read(tmp_path / "b.dcm")
            except InputError as error:
                sentence = str(error)
                assert sentence.startswith(str(tmp_path / "b.dcm"))
