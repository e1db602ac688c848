"""The limit of decoded size, asked before memory is taken."""

import contextlib
import re
import struct
import zipfile
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile

from nnsam.errors import InputError
from nnsam.io import read_image, read_labels
from nnsam.io.limits import DEFAULT, allowing_voxels, check_stored, check_voxels, max_voxels
from nnsam.io.nnunet_readers import reader
from nnsam.io.npz import load_arrays
from nnsam.io.reading import read_header


def test_the_limit_is_the_environment_s_and_then_the_default(monkeypatch):
    monkeypatch.delenv("NNSAM_MAX_VOXELS", raising=False)
    assert max_voxels() == DEFAULT == 2**31
    monkeypatch.setenv("NNSAM_MAX_VOXELS", "1000")
    assert max_voxels() == 1000
    with allowing_voxels(7):
        assert max_voxels() == 7
    with allowing_voxels(None):
        assert max_voxels() == 1000
    assert max_voxels() == 1000


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e9", "9" * 5000, "²"])
def test_a_variable_that_is_no_number_is_told(monkeypatch, text):
    monkeypatch.setenv("NNSAM_MAX_VOXELS", text)
    with pytest.raises(InputError, match="NNSAM_MAX_VOXELS is") as raised:
        max_voxels()
    assert len(str(raised.value)) < 400


def test_as_many_as_allowed_pass_and_one_more_does_not():
    with allowing_voxels(24):
        check_voxels("a.png", (4, 6))
        with pytest.raises(InputError, match=r"a\.png announces 5 x 5 values, .* limit of 24; .*--max-voxels"):
            check_voxels("a.png", (5, 5))


def test_a_file_can_hold_as_many_bytes_as_it_has(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    check_stored(path, 5)
    check_stored(path, 5000, 1000)
    with pytest.raises(InputError, match="holds 5 bytes, its header announces 6"):
        check_stored(path, 6)
    with pytest.raises(InputError, match="announces 5001 bytes, more than it can hold"):
        check_stored(path, 5001, 1000)


def deflated_png(width, height, rows=b""):
    """A grey PNG whose header announces more than its rows hold."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


WAYS = (read_image, read_labels, read_header)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "jpg"])
def test_pictures_are_measured_by_every_reader(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    PIL.Image.new("L", (40, 30)).save(path)
    ways = [read for read in WAYS if ending != "jpg" or read is not read_labels]
    for read in ways:
        with allowing_voxels(1200):
            read(path)
        with allowing_voxels(1199), pytest.raises(InputError, match=r"30 x 40( x 1)? values, .* limit of 1199"):
            read(path)
    for name in ("NaturalImage2DIO", *(("Tiff3DIO",) if ending == "tif" else ())):
        with allowing_voxels(1199), pytest.raises(InputError, match="limit of 1199"):
            reader(name).read_images([path])


def test_a_picture_that_announces_more_than_it_holds_is_refused_at_once(tmp_path, recwarn):
    (tmp_path / "a.png").write_bytes(deflated_png(30000, 30000))
    (tmp_path / "b.png").write_bytes(deflated_png(2**31 - 1, 2**31 - 1))
    for name, match in (("a.png", "cut off: .* more than it can hold"), ("b.png", "limit of 2147483648")):
        for read in (*WAYS, lambda path: reader("NaturalImage2DIO").read_images([path])):
            with pytest.raises(InputError, match=match):
                read(tmp_path / name)
    assert not recwarn.list  # Pillow's own of decompression bombs


def test_large_pictures_within_the_limit_are_read_without_pillow_s_warning(tmp_path, recwarn):
    before = PIL.Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(deflated_png(20000, 10000, bytes(10000 * 20001)))
    assert read_header(tmp_path / "a.png")[0] == (20000, 10000)
    assert not recwarn.list
    assert before == PIL.Image.MAX_IMAGE_PIXELS


def test_a_picture_of_another_program_s_format_is_not_opened(tmp_path):
    PIL.Image.new("L", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    for read in WAYS:
        with pytest.raises(InputError, match=r"a\.png cannot be read"):
            read(tmp_path / "a.png")


def test_tiffs_whose_pages_hold_less_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 8, 8), np.uint8), metadata={"axes": "ZYX"})
    content = (tmp_path / "a.tif").read_bytes()
    for tag, size in ((256, 60000), (257, 60000)):
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            place = tiff.pages.first.tags[tag].valueoffset
        changed = bytearray(content)
        changed[place : place + 2] = struct.pack("<H", size)
        (tmp_path / "c.tif").write_bytes(changed)
        with pytest.raises(InputError, match=r"c\.tif"):
            read_image(tmp_path / "c.tif")


def test_a_tiff_reads_no_other_file(tmp_path):
    tifffile.imwrite(tmp_path / "other.ome.tif", np.full((2, 8, 8), 9, np.uint8), metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "other.ome.tif") as tiff:
        uid = tiff.ome_metadata
    data = '<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{file}">urn:uuid:{n}</UUID></TiffData>'
    number = "00000000-0000-0000-0000-00000000000"
    planes = data.format(z=0, file="a.ome.tif", n=number + "1") + data.format(z=1, file="other.ome.tif", n=number + "2")
    xml = uid[: uid.index("<TiffData")] + planes + uid[uid.index("</Pixels>") :]
    xml = re.sub(r'UUID="[^"]*"', f'UUID="urn:uuid:{number}1"', xml, count=1)
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((8, 8), np.uint8), description=xml, metadata=None)
    for read in (read_image, read_labels):
        found = None
        with contextlib.suppress(InputError):
            found = read(tmp_path / "a.ome.tif").pixels
        assert found is None or not (found == 9).any()


ZYX = {"axes": "ZYX"}


@pytest.mark.parametrize(
    "options",
    [{}, {"imagej": True, "metadata": ZYX}, {"ome": True, "metadata": ZYX}, {"rowsperstrip": 3}, {"tile": (16, 16)}],
    ids=str,
)
def test_tiffs_that_hold_more_than_they_announce_are_refused(tmp_path, options):
    pages = np.arange(4 * 20 * 24, dtype=np.uint8).reshape(4, 20, 24)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, pages)
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(pages[:3], 0, -1), photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        place = tiff.pages.first.tags["SamplesPerPixel"].valueoffset
    content = bytearray((tmp_path / "b.tif").read_bytes())
    content[place : place + 2] = struct.pack("<H", 1)
    (tmp_path / "b.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"b\.tif"):
        reader("Tiff3DIO").read_images([tmp_path / "b.tif"])
    with pytest.raises(InputError, match=r"b\.tif"):
        read_image(tmp_path / "b.tif")


def npz(path, key="imgs", shape="(4, 6)", kind="|u1", content=bytes(24), compression=zipfile.ZIP_DEFLATED):
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{key}.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content)
    return path


def test_the_arrays_of_an_archive_are_measured(tmp_path):
    with allowing_voxels(24):
        assert load_arrays(npz(tmp_path / "a.npz"), ("imgs",))["imgs"].shape == (4, 6)
    with allowing_voxels(23), pytest.raises(InputError, match=r"4 x 6 values, .* limit of 23"):
        load_arrays(tmp_path / "a.npz", ("imgs",))
    for change, match in (
        ({"shape": "(40000, 50000)"}, "announces|has the shape"),
        ({"shape": "(4, 5)"}, "has the shape"),
        ({"shape": "(4, -6)"}, r"a\.npz"),
        ({"shape": "(4, 1" + "0" * 4000 + ")"}, r"a\.npz"),
        ({"kind": "<f8"}, "has the shape"),
        ({"kind": "|O"}, "pickled"),
        ({"compression": zipfile.ZIP_LZMA}, "compression"),
        ({"content": b""}, "has the shape"),
    ):
        with pytest.raises(InputError, match=match) as raised:
            load_arrays(npz(tmp_path / "a.npz", **change), ("imgs",))
        assert len(str(raised.value)) < 700
