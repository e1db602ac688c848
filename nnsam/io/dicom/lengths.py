"""Whether a DICOM file holds as many pixels as its header says; decoders fill up what is missing with anything.

Lengths of pixel data: PS3.5, section 8, https://dicom.nema.org/medical/dicom/current/output/html/part05.html
"""

import zlib
from pathlib import Path
from typing import Any

from nnsam.errors import InputError
from nnsam.io.limits import DEFLATE_RATIO, check_stored, check_voxels, max_voxels
from nnsam.support.text import shown

# Every frame of compressed data is an item of its own, with a tag and a length.
_ITEM_BYTES = 8
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_START = 132
_CHUNK = 1 << 20
# Of a header, beside its pixels.
_HEADER_BYTES = 1 << 26


def check_deflated(path: Path) -> None:
    """Refuses a deflated data set that is longer than as many voxels as are allowed; pydicom inflates it at once.

    Raises:
        InputError: it is longer.
        Exception: whatever pydicom and zlib raise about a damaged file.
    """
    from pydicom.filereader import read_file_meta_info

    with path.open("rb") as file:
        if _DEFLATED not in file.read(4096):
            return
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != _DEFLATED.decode():
            return
        # The group length's own element has 12 bytes.
        file.seek(_META_START + 12 + int(meta.FileMetaInformationGroupLength))
        inflater, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
        limit = 8 * max_voxels() + _HEADER_BYTES
        while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(_CHUNK)):
            length += len(inflater.decompress(chunk, _CHUNK))
            if length > limit:
                raise InputError(
                    f"{path} inflates to more than {limit} bytes, which {max_voxels()} voxels need at most; if it is "
                    "really that large, raise --max-voxels."
                )


def pixel_grid(data: Any) -> tuple[int, int, int, int]:
    """Frames, rows, columns and values per pixel that a header announces.

    Raises:
        ValueError: one of them is no number above 0.
    """
    names = ("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel")
    stated = [1 if data.get(name) in (None, "") else data.get(name) for name in names]
    if not all(isinstance(value, int) and value > 0 for value in stated):
        raise ValueError(
            f"it states {' x '.join(map(shown, stated))} frames, rows, columns and values per pixel; expected whole "
            "numbers above 0"
        )
    frames, rows, columns, samples = (int(value) for value in stated)
    return frames, rows, columns, samples


def check_announced(path: Path, data: Any) -> None:
    """Compares what a header announces with the limit of voxels and with the length of its file.

    Args:
        path: the file.
        data: of pydicom, which needs no pixel data.

    Raises:
        InputError: more pixels than are allowed, or than the file can hold.
        ValueError: no pixels.
    """
    grid = pixel_grid(data)
    check_voxels(path, grid)
    syntax = data.file_meta.TransferSyntaxUID
    needed = grid[0] * _ITEM_BYTES if syntax.is_encapsulated else _native_length(data, grid)
    check_stored(path, needed, DEFLATE_RATIO if syntax.is_deflated else 1)


def _native_length(data: Any, grid: tuple[int, int, int, int]) -> int:
    """Bytes of uncompressed pixel data; pixels of one bit are packed across frames."""
    frames, rows, columns, samples = grid
    if data.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2  # two pixels share their colour
    return (frames * rows * columns * samples * int(data.get("BitsAllocated") or 1) + 7) // 8


def check_pixel_data(data: Any) -> None:
    """Compares pixel data with the rows, columns and frames of its header.

    Args:
        data: of pydicom, with the pixel data.

    Raises:
        ValueError: no pixel data, less than announced or more by a row at least, frames of other sizes, or cut off.
        Exception: whatever pydicom raises about damaged data.
    """
    present = [name for name in _PIXELS if data.get(name) is not None]
    if len(present) != 1:
        raise ValueError(f"it has {' and '.join(present) if present else 'none'}; expected one kind of it")
    grid = pixel_grid(data)
    content = data[present[0]].value
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_frames(content, grid, int(data.get("BitsAllocated") or 8))
    else:
        _check_native(data, len(content), grid)


def _check_native(data: Any, found: int, grid: tuple[int, int, int, int]) -> None:
    frames, rows, columns, samples = grid
    expected = _native_length(data, grid)
    row = max(2, expected // (frames * rows))  # lengths are even
    # Some writers name the colours that share pixels, and store them for every pixel.
    lengths = [expected]
    if data.get("PhotometricInterpretation") == "YBR_FULL_422":
        lengths.append(frames * rows * columns * samples)
    if not any(length <= found < length + row for length in lengths):
        raise ValueError(f"{frames} x {rows} rows of {columns} pixels are {expected} bytes, and it holds {found}")


def _check_frames(content: bytes, grid: tuple[int, int, int, int], allocated: int) -> None:
    from pydicom.encaps import generate_frames, parse_basic_offsets

    frames, rows, columns, samples = grid
    offsets = parse_basic_offsets(content)
    if len(offsets) not in (0, frames):
        raise ValueError(f"the header announces {frames} frames, and it holds {len(offsets)}")
    count = 0
    for stream in generate_frames(content, number_of_frames=frames):
        count += 1
        found = _stream_grid(stream)
        if found is not None and found[:3] != (rows, columns, samples):
            raise ValueError(
                f"the header states {rows} rows, {columns} columns and {samples} values per pixel, and frame {count} "
                f"has {found[0]}, {found[1]} and {found[2]}"
            )
        # Decoders cut numbers off, or write beyond their memory.
        if found is not None and 8 * (1 if found[3] <= 8 else 2 if found[3] <= 16 else 4) != allocated:
            raise ValueError(f"the header allots {allocated} bits per value, and frame {count} has {found[3]}")
        # The end of an image, and what fills up a fragment.
        if found is not None and not stream.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
            raise ValueError(f"frame {count} is cut off")
    if count != frames:
        raise ValueError(f"the header announces {frames} frames, and it holds {count}")


def _stream_grid(stream: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, values per pixel and bits per value of a JPEG, JPEG-LS or JPEG 2000 stream; of others None.

    JPEG and JPEG-LS: start of frame, ITU T.81 B.2.2; JPEG 2000: the segment SIZ, ITU T.800 A.5.1.
    """
    if stream[:2] == b"\xff\xd8":
        return _jpeg_grid(stream)
    place = stream[:4096].find(b"\xff\x4f\xff\x51")  # behind the boxes of a JP2 file, if it is one
    if place < 0 or len(stream) < place + 44:
        return None
    fields = [int.from_bytes(stream[place + 8 + 4 * index : place + 12 + 4 * index], "big") for index in range(4)]
    width, height, left, top = fields
    samples = int.from_bytes(stream[place + 40 : place + 42], "big")
    return height - top, width - left, samples, (stream[place + 42] & 0x7F) + 1


_NO_START = (0xC4, 0xC8, 0xCC)
_JPEG_LS_START = 0xF7


def _jpeg_grid(stream: bytes) -> tuple[int, int, int, int]:
    place = 2
    while place + 10 <= len(stream) and stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            place += 1
            continue
        if marker == _JPEG_LS_START or (0xC0 <= marker <= 0xCF and marker not in _NO_START):
            rows, columns = (int.from_bytes(stream[place + at : place + at + 2], "big") for at in (5, 7))
            return rows, columns, stream[place + 9], stream[place + 4]
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return 0, 0, 0, 0  # a stream that begins like a JPEG and never states its size
