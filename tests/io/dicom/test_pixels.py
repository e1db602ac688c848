"""Values and colours of pixel data, against pydicom's own arithmetic and what was encoded."""

import io
import warnings

import numpy as np
import pytest
from helpers.dicom_files import CR, make_dicom, make_enhanced, write_dicom, write_slices
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError, NnsamWarning
from nnsam.io import read_image

pydicom = pytest.importorskip("pydicom")
RANDOM = np.random.default_rng(0)
JPEG, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NnsamWarning)
        return read_image(path)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from([np.uint8, np.uint16, np.int16]),
    rescales=st.lists(
        st.tuples(
            st.one_of(st.integers(-3, 9).filter(bool), st.floats(1e-4, 50).map(lambda value: float(f"{value:.6g}"))),
            st.one_of(st.integers(-2000, 2000), st.floats(-100, 100).map(lambda value: float(f"{value:.6g}"))),
        ),
        min_size=3,
        max_size=3,
    ),
    seed=st.integers(0, 99),
)
@example(kind=np.uint8, rescales=[(1, 0), (1, 2.22507e-309), (1, 0)], seed=0)  # below normal double precision
def test_every_slice_is_rescaled_by_its_own_slope_and_intercept(tmp_path_factory, kind, rescales, seed):
    folder = tmp_path_factory.mktemp("series")
    ends = np.iinfo(kind)
    volume = np.random.default_rng(seed).integers(ends.min, ends.max, (3, 4, 5), endpoint=True).astype(kind)
    paths = write_slices(folder, volume, rescales=rescales)
    expected = np.stack([pydicom.pixels.apply_modality_lut(pydicom.dcmread(path).pixel_array, pydicom.dcmread(path))
                         for path in paths])  # fmt: skip
    found = read(folder).pixels
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    if all(float(value).is_integer() for pair in rescales for value in pair):
        assert found.dtype.kind in "iu"


def test_frames_of_an_enhanced_file_have_their_own_rescaling(tmp_path):
    frames = RANDOM.integers(0, 4000, (3, 4, 5)).astype(np.uint16)
    rescales = [(1, 0), (2, -10), (1, -1024)]
    data = make_enhanced(frames, [(0, 0, 3 * index) for index in range(3)], rescales=rescales)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    expected = [
        frame * slope + intercept for frame, (slope, intercept) in zip(frames.astype(int), rescales, strict=True)
    ]
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, expected)


def test_a_lookup_table_is_applied(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.add_new("LUTData", "US", [10, 500, 20, 60000])
    pixels = np.array([[0, 1], [2, 3]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", pixels, bits=2, ModalityLUTSequence=[table])
    assert read(path).pixels.tolist() == [[10, 500], [20, 60000]]


def test_floats_and_values_beyond_the_stored_bits(tmp_path):
    values = np.array([[0.5, -3.25], [1e6, 2]], np.float32)
    np.testing.assert_array_equal(read(write_dicom(tmp_path / "f.dcm", values)).pixels, values)
    stored = np.array([[0x1FFF, 0xF001], [0x0800, 5]], np.uint16)  # an overlay in the upper four bits
    np.testing.assert_array_equal(read(write_dicom(tmp_path / "o.dcm", stored, bits=12)).pixels, stored & 0x0FFF)


@pytest.mark.parametrize(
    "compression", ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless", "DeflatedExplicitVRLittleEndian"]
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16])
def test_lossless_compression_changes_nothing(tmp_path, compression, kind):
    ends = np.iinfo(kind)
    pixels = RANDOM.integers(ends.min // 4, ends.max // 4, (64, 80)).astype(kind)
    data = make_dicom(pixels, rescale=(1, -24))
    uid = getattr(pydicom.uid, compression)
    if uid.is_deflated:
        data.file_meta.TransferSyntaxUID = uid
    else:
        data.compress(uid)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, pixels.astype(int) - 24)


def test_lossless_jpeg_is_read(tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    pixels = RANDOM.integers(0, 4000, (24, 32)).astype(np.uint16)
    data = make_dicom(pixels, bits=12)
    data.PixelData = pydicom.encaps.encapsulate([codecs.ljpeg_encode(pixels, bitspersample=12)])
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, pixels)


COLOURS = np.zeros((32, 48, 3), np.uint8)
COLOURS[:, :16], COLOURS[:, 16:32], COLOURS[:, 32:] = (200, 30, 40), (20, 180, 60), (90, 60, 220)


def jpeg(space):
    """A JPEG stream: "jfif" (YCbCr, marked), "adobe" (RGB, marked), "bare" (YCbCr without a marker)."""
    import PIL.Image

    stream = io.BytesIO()
    picture = PIL.Image.fromarray(COLOURS)
    picture.save(stream, "JPEG", quality=95, subsampling=0, **({"keep_rgb": True} if space == "adobe" else {}))
    content = stream.getvalue()
    if space == "bare":  # without the JFIF segment, which comes first
        length = int.from_bytes(content[4:6], "big")
        content = content[:2] + content[4 + length :]
    return content


@pytest.mark.parametrize(
    ("space", "stated"),
    [
        *[("jfif", stated) for stated in ("RGB", "YBR_FULL_422", "YBR_FULL")],
        *[("adobe", stated) for stated in ("RGB", "YBR_FULL_422")],
        ("bare", "YBR_FULL_422"),
    ],
)
def test_jpeg_colours_are_those_of_the_stream_whatever_the_header_says(tmp_path, space, stated):
    data = make_dicom(COLOURS, colour=True, position=None, sop_class=CR, modality="XC")
    data.PhotometricInterpretation = stated
    data.PixelData = pydicom.encaps.encapsulate([jpeg(space)])
    data.file_meta.TransferSyntaxUID = JPEG
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    found = read(tmp_path / "a.dcm").pixels
    assert np.abs(found.astype(int) - COLOURS)[:, [8, 24, 40]].max() < 8


def test_a_jpeg_without_a_word_is_what_the_header_says(tmp_path):
    """The same components without any marker: as RGB they are taken as they are."""
    data = make_dicom(COLOURS, colour=True, position=None)
    data.PixelData = pydicom.encaps.encapsulate([jpeg("bare")])
    data.file_meta.TransferSyntaxUID = JPEG
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    import PIL.Image

    expected = np.asarray(PIL.Image.fromarray(COLOURS).convert("YCbCr"))
    assert np.abs(read(tmp_path / "a.dcm").pixels.astype(int) - expected)[:, [8, 24, 40]].max() < 8


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("space", ["RGB", "YBR_FULL"])
def test_uncompressed_colours(tmp_path, planar, space):
    import PIL.Image

    stored = COLOURS if space == "RGB" else np.asarray(PIL.Image.fromarray(COLOURS).convert("YCbCr"))
    data = make_dicom(COLOURS, colour=True, position=None, photometric=space)
    data.PixelData = (np.moveaxis(stored, -1, 0) if planar else stored).tobytes()
    data.PlanarConfiguration = planar
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.abs(read(tmp_path / "a.dcm").pixels.astype(int) - COLOURS).max() <= 2


def test_palettes_become_colours(tmp_path):
    data = make_dicom(np.array([[0, 1], [2, 1]], np.uint8), position=None, photometric="PALETTE COLOR")
    for index, name in enumerate(("Red", "Green", "Blue")):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
        table = bytes([10 * index, 100 + index, 200 + index, 0])
        setattr(data, f"{name}PaletteColorLookupTableData", table)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert read(tmp_path / "a.dcm").pixels[0].tolist() == [[0, 10, 20], [100, 101, 102]]


def test_radiographs_that_store_bright_as_low_are_turned_over_and_it_is_told(tmp_path):
    pixels = RANDOM.integers(0, 4096, (6, 8)).astype(np.uint16)
    options = {"position": None, "bits": 12, "sop_class": CR, "modality": "CR", "photometric": "MONOCHROME1"}
    path = write_dicom(tmp_path / "a.dcm", pixels, **options)
    with pytest.warns(NnsamWarning, match="MONOCHROME1"):
        np.testing.assert_array_equal(read_image(path).pixels, 4095 - pixels)
    slices = write_slices(tmp_path / "ct", np.stack([pixels] * 3), photometric="MONOCHROME1", rescale=(1, -1024))
    np.testing.assert_array_equal(read(slices[0].parent).pixels[0], pixels.astype(int) - 1024)  # a unit stays


@pytest.mark.parametrize("lost", [1, 2, 100, 384])
def test_less_pixel_data_than_rows_is_refused(tmp_path, lost):
    data = make_dicom(np.ones((12, 16), np.uint16))
    data.PixelData = data.PixelData[: len(data.PixelData) - lost]
    if lost % 2:
        data.PixelData = data.PixelData[:-1]
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"a\.dcm is damaged: its pixel data cannot be decoded"):
        read_image(tmp_path / "a.dcm")


def test_a_compression_whose_package_is_missing_is_named(tmp_path, monkeypatch):
    data = make_dicom(np.ones((12, 16), np.uint16))
    data.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    data.PixelData = pydicom.encaps.encapsulate([b"\0" * 20])
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"a\.dcm"):
        read_image(tmp_path / "a.dcm")
