"""Headers of NRRD, MHA and GIPL: what ITK would take for granted; ITK's own writers make the files."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from nnsam.errors import InputError
from nnsam.io import read_image, read_labels
from nnsam.io.itk_headers import check_itk_header
from nnsam.io.limits import allowing_voxels
from nnsam.io.nnunet_readers import reader
from nnsam.io.reading import read_header
from nnsam.io.volumes import open_itk

VOXELS = np.arange(4 * 3 * 2, dtype="<i2").reshape(2, 3, 4)
BODY = VOXELS.tobytes()
MHA = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 4 3 2\n"
MHA_END = "ElementType = MET_SHORT\nElementDataFile = {file}\n"
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nencoding: raw\nendian: little\n"


def write_mha(path, extra="", file="LOCAL", body=BODY, start=MHA):
    path.write_bytes((start + extra + MHA_END.format(file=file)).encode() + body)
    return path


def write_nrrd(path, extra="", body=BODY, start=NRRD):
    path.write_bytes((start + extra + "\n").encode() + body)
    return path


def refuse(path, match):
    """No way in reads the file."""
    for read in (check_itk_header, open_itk, read_header, read_image, read_labels):
        if read is read_labels and path.suffix in (".nhdr", ".mhd"):
            continue
        with pytest.raises(InputError, match=match):
            read(path)
    with pytest.raises(InputError, match=match):
        reader("SimpleITKIO").read_images([path])


@pytest.mark.parametrize("ending", ["nrrd", "nhdr", "mha", "mhd", "gipl"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_what_itk_writes_passes(tmp_path, ending, compressed, kind):
    if ending == "gipl" and kind.endswith("int32"):
        pytest.skip("ITK does not write it")
    pixels = VOXELS.astype(kind)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / f"a.{ending}"), compressed)
    check_itk_header(tmp_path / f"a.{ending}")
    found = sitk.GetArrayFromImage(open_itk(tmp_path / f"a.{ending}").Execute())
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("ending", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("colours", [1, 3])
def test_every_number_of_axes_passes(tmp_path, ending, shape, colours):
    pixels = np.zeros((*shape, colours) if colours > 1 else shape, np.uint8)
    image = sitk.GetImageFromArray(pixels, isVector=colours > 1)
    image.SetDirection((-np.eye(len(shape))).ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
    check_itk_header(tmp_path / f"a.{ending}")
    with allowing_voxels(pixels.size - 1), pytest.raises(InputError, match=f"limit of {pixels.size - 1}"):
        check_itk_header(tmp_path / f"a.{ending}")


def test_files_that_a_header_names_lie_beside_it_and_are_asked_for(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "secret.raw"
    (inside / "sub").mkdir(parents=True)
    for file in (outside, inside / "x.raw", inside / "sub" / "x.raw", inside / "1.raw"):
        file.write_bytes(BODY)
    (inside / "link.raw").symlink_to(outside)
    for write, one, own in ((write_mha, "mhd", "mha"), (write_nrrd, "nhdr", "nrrd")):

        def make(ending, name, write=write):
            extra = {"file": name} if write is write_mha else {"extra": f"data file: {name}\n"}
            return write(inside / f"a.{ending}", body=b"", **extra)

        np.testing.assert_array_equal(read_image(make(one, "x.raw")).pixels, VOXELS)
        refuse(make(own, "x.raw"), "holds them itself")
        for name in ("../secret.raw", str(outside), "sub/x.raw", "./x.raw", "..", r"sub\x.raw", "C:x.raw"):
            refuse(make(one, name), "expected a file in the same folder")
        refuse(make(one, "link.raw"), "which is a link")
        refuse(make(one, "absent.raw"), "does not exist")
        refuse(make(one, "../secre%d.raw 1 1 1"), "same folder|no files are")
        refuse(make(one, "%s.raw 1 1 1"), "no files are")
        refuse(make(one, "%d.raw 0 999999999 1"), "no files are")


def test_lists_and_patterns_of_files_are_checked_one_by_one(tmp_path):
    for index, plane in enumerate(VOXELS, 1):
        (tmp_path / f"s{index}.raw").write_bytes(plane.tobytes())
    write_nrrd(tmp_path / "a.nhdr", "data file: s%d.raw 1 2 1\n", b"")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nhdr").pixels, VOXELS)
    write_nrrd(tmp_path / "b.nhdr", "data file: LIST\ns1.raw\ns2.raw", b"")
    np.testing.assert_array_equal(read_image(tmp_path / "b.nhdr").pixels, VOXELS)
    write_mha(tmp_path / "c.mhd", "", "LIST\ns1.raw\ns2.raw", b"")
    np.testing.assert_array_equal(read_image(tmp_path / "c.mhd").pixels, VOXELS)
    (tmp_path / "s2.raw").unlink()
    (tmp_path / "s2.raw").symlink_to(tmp_path / "s1.raw")
    for name in ("a.nhdr", "b.nhdr", "c.mhd"):
        refuse(tmp_path / name, "which is a link")


@pytest.mark.parametrize("change", [-48, -2, 8, 48])
def test_another_length_than_announced_is_refused(tmp_path, change):
    body = BODY
    other = body[:change] if change < 0 else body + body[:change]
    match = "cut off" if change < 0 else "more pixels"
    refuse(write_mha(tmp_path / "a.mha", body=other), match)
    refuse(write_nrrd(tmp_path / "a.nrrd", body=other), match)
    gzipped = NRRD.replace("raw", "gzip")
    if change > 0:
        refuse(write_nrrd(tmp_path / "b.nrrd", body=gzip.compress(other), start=gzipped), match)
    (tmp_path / "x.raw").write_bytes(other)
    refuse(write_mha(tmp_path / "a.mhd", file="x.raw", body=b""), match)
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(tmp_path / "a.gipl"))
    whole = (tmp_path / "a.gipl").read_bytes()
    (tmp_path / "a.gipl").write_bytes(whole[:change] if change < 0 else whole + body[:change])
    with pytest.raises(InputError, match=match):
        read_labels(tmp_path / "a.gipl")


def test_a_line_end_behind_the_pixels_passes(tmp_path):
    np.testing.assert_array_equal(read_image(write_mha(tmp_path / "a.mha", body=BODY + b"\n")).pixels, VOXELS)


@pytest.mark.parametrize(
    "extra",
    [
        *(f"ElementSpacing = {text}\n" for text in ("0 1 1", "nan 1 1", "inf 1 1", "x 1 1", "")),
        "ElementSize = 0 1 1\n",
        "Offset = nan 0 0\n",
        "TransformMatrix = nan 0 0 0 1 0 0 0 1\n",
        "NDims = 3\n",
        "DimSize = 4 3 1\n",
        "HeaderSize = -1\n",
        "HeaderSize = 8\n",
        "CompressedData = True\nCompressedDataSize = 99999999999\n",
    ],
)
def test_metaimages_that_say_nothing_sensible_are_refused(tmp_path, extra):
    refuse(write_mha(tmp_path / "a.mha", extra), r"a\.mha")


@pytest.mark.parametrize(
    "extra",
    [
        *(f"spacings: {text}\n" for text in ("nan nan nan", "nan 1 1", "0 1 1", "inf 1 1", "x 1 1", "")),
        *(
            f"space: left-posterior-superior\nspace directions: {text}\n"
            for text in ("none none none", "(nan,nan,nan) (0,1,0) (0,0,1)", "(1,0,0) (0,1,0) none")
        ),
        "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (nan,nan,nan)\n",
        "sizes: 4 3 1\n",
        "byte skip: -1\n",
        "byte skip: 4\n",
        "a line without a colon\n",
    ],
)
def test_nrrd_files_that_say_nothing_sensible_are_refused(tmp_path, extra):
    refuse(write_nrrd(tmp_path / "a.nrrd", extra), r"a\.nrrd")


@pytest.mark.parametrize("text", ["4 3 -2", "4 3 0", "4 3", "4 3 2 1", "4 3 x", "4 3 " + "9" * 5000, "4 3 1e3"])
def test_sizes_are_whole_numbers_above_0(tmp_path, text):
    for path in (
        write_mha(tmp_path / "a.mha", start=MHA.replace("4 3 2", text)),
        write_nrrd(tmp_path / "a.nrrd", start=NRRD.replace("4 3 2", text)),
    ):
        with pytest.raises(InputError) as raised:
            check_itk_header(path)
        assert len(str(raised.value)) < 600


@pytest.mark.parametrize("ending", ["mha", "nrrd"])
def test_what_announces_too_much_is_refused_before_memory_is_taken(tmp_path, ending):
    write, start = (write_mha, MHA) if ending == "mha" else (write_nrrd, NRRD)
    refuse(write(tmp_path / f"a.{ending}", start=start.replace("4 3 2", "1200 1200 1200")), "cut off")
    refuse(write(tmp_path / f"a.{ending}", start=start.replace("4 3 2", "9999 9999 9999")), "limit of 2147483648")


def test_the_ending_decides_who_reads(tmp_path):
    """ITK goes by the content where it may, and then reads what nobody has checked."""
    write_nrrd(tmp_path / "a.mha")
    write_mha(tmp_path / "a.nrrd")
    for name in ("a.mha", "a.nrrd"):
        refuse(tmp_path / name, "cannot be read")


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mha", b"NDims = 2\nDimSize = 4 3\nElementType = MET_UCHAR\n%sElementDataFile = LOCAL\n"),
        ("a.nrrd", b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 4 3\nencoding: raw\n%s\n"),
    ],
)
def test_a_missing_pixel_size_is_told(tmp_path, name, header):
    line = b"ElementSpacing = 2 2\n" if name == "a.mha" else b"spacings: 2 2\n"
    path = tmp_path / name
    path.write_bytes(header % b"" + bytes(range(12)))
    image = read_image(path)
    assert image.spacing == (1, 1)
    assert [*image.notices] == [f"{path} states no size of its pixels; 1 mm is taken, as other programs do."]
    path.write_bytes(header % line + bytes(range(12)))
    assert (read_image(path).spacing, read_image(path).notices) == ((2, 2), ())


@pytest.mark.parametrize("field", ["kinds", "centers", "space units", "sizes", "z" * 2000])
def test_nrrd_words_of_hundreds_of_letters_are_refused(tmp_path, field):
    """A kind of 2,000 letters ended the process in ITK."""
    header = b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 4 3\nencoding: raw\ncontent: " + b"y" * 900 + b"\n"
    path = tmp_path / "a.nrrd"
    path.write_bytes(header + b"\n" + bytes(12))
    assert read_image(path).shape == (3, 4)
    path.write_bytes(header + field.encode() + b": domain " + b"x" * 2000 + b"\n\n" + bytes(12))
    with pytest.raises(InputError, match=r"a\.nrrd"):
        read_image(path)


def test_itk_does_not_guess_what_a_file_is(tmp_path):
    """Among what it tries, some readers take gigabytes for a few bytes that they take for theirs."""
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes(2000))
    with pytest.raises(InputError, match=r"a\.dcm is no image by its ending"):
        read_header(path)
