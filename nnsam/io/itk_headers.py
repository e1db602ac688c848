"""Headers of NRRD, MHA and GIPL files, read before ITK reads them: it takes what they say for granted.

ITK opens whatever file a header names, takes a pixel size of nan for 1 mm, and reads no further than a header says.
Formats: https://teem.sourceforge.net/nrrd/format.html, https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import math
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from nnsam.errors import InputError
from nnsam.io.limits import DEFLATE_RATIO, check_stored, check_voxels
from nnsam.support.text import shown

# Of ITK, by the ending of a file. Left to itself ITK tries what the content may be, and some readers take gigabytes.
READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
READERS |= {".gipl": "GiplImageIO", ".nii": "NiftiImageIO", ".nii.gz": "NiftiImageIO"}
READERS |= {".png": "PNGImageIO", ".bmp": "BMPImageIO", ".jpg": "JPEGImageIO", ".jpeg": "JPEGImageIO"}
READERS |= {".tif": "TIFFImageIO", ".tiff": "TIFFImageIO"}
# Headers whose ending says that the pixels lie in a file of their own.
_DETACHED = (".nhdr", ".mhd")
_HEADER_BYTES = 1 << 22
_MAX_FILES = 100_000
_WORDS, _WORD = ("endian", "encoding", "type", "space", "byteorder", "elementtype"), 100
_CHUNK = 1 << 20
_AGAIN = "save it again as one file"


@dataclass(frozen=True)
class _Pixels:
    """What a header announces.

    Attributes:
        sizes: along every axis, values of a pixel included.
        item: bytes of a value.
        files: that hold the pixels, by name; none where they follow the header.
        start: byte of the file that holds them, or of the first one; None where they end with the file.
        encoding: raw, zlib or text; text takes two bytes for a value at least.
    """

    sizes: tuple[int, ...]
    item: int
    files: tuple[str, ...] = ()
    start: int | None = 0
    encoding: str = "raw"


@dataclass
class _Fields:
    """Names and values of a text header, and where it ends."""

    values: dict[str, str] = field(default_factory=dict)
    end: int = 0
    rest: list[str] = field(default_factory=list)  # lines behind the end

    def add(self, path: Path, name: str, value: str) -> None:
        if name in self.values:
            raise InputError(f"{path} states {shown(name)} twice in its header; {_AGAIN}.")
        if name.lower() in _WORDS and len(value) > _WORD:  # ITK copies it into a buffer of fixed length
            raise InputError(f"{path} states {shown(value)} as its {name}, which is no word of the format; {_AGAIN}.")
        self.values[name] = value.strip()


def itk_reader(path: Path) -> str:
    """The name of ITK's reader for a file's ending; empty where there is none."""
    name = path.name.lower()
    return next((reader for ending, reader in READERS.items() if name.endswith(ending)), "")


def check_itk_header(path: Path) -> None:
    """Checks a NRRD, MHA or GIPL file as far as its header goes; other files pass.

    Raises:
        InputError: no such header, one that names files as its pixels that do not lie beside it, more values than are
            allowed, more or fewer than the file holds, or a size of pixels or place that is none.
    """
    reader = itk_reader(path)
    if reader == "MetaImageIO":
        _check_pixels(path, _read_mha(path))
    elif reader == "NrrdImageIO":
        _check_pixels(path, _read_nrrd(path))
    elif reader == "GiplImageIO":
        _check_pixels(path, _read_gipl(path))


def pixel_files(path: Path) -> list[Path]:
    """The files beside a NRRD or MHA header that hold its pixels; none where they follow it.

    Raises:
        InputError: no such header, or one that names what it may not; see `check_itk_header`.
    """
    reader = itk_reader(path)
    names: tuple[str, ...] = ()
    if reader == "MetaImageIO":
        names = _mha_files(path, _mha_fields(path))
    elif reader == "NrrdImageIO":
        names = _nrrd_files(path, _nrrd_fields(path))
    return [_beside(path, name) for name in names]


def states_spacing(path: Path) -> bool:
    """Whether a file, its header intact, states its pixel size; where a NRRD or MHA does not, ITK takes 1 mm."""
    reader = itk_reader(path)
    if reader == "MetaImageIO":
        return not {"ElementSpacing", "ElementSize"}.isdisjoint(_mha_fields(path).values)
    if reader == "NrrdImageIO":
        return not {"spacings", "space directions"}.isdisjoint(_nrrd_fields(path).values)
    return True


def _check_pixels(path: Path, pixels: _Pixels) -> None:
    check_voxels(path, pixels.sizes)
    expected = math.prod(pixels.sizes) * pixels.item
    files = [_beside(path, name) for name in pixels.files] or [path]
    if pixels.start is None or len(files) > 1:
        stored = sum(file.stat().st_size for file in files)
        if pixels.encoding == "raw" and stored < expected:
            raise InputError(f"{path} announces {expected} bytes of pixels, and its files hold {stored}; {_AGAIN}.")
        return
    row = max(4, pixels.sizes[0] * pixels.item)  # a line end may follow
    if pixels.encoding == "text":
        check_stored(files[0], pixels.start + 2 * math.prod(pixels.sizes) - 1)
    elif pixels.encoding == "raw":
        check_stored(files[0], pixels.start + expected)
        _check_surplus(path, files[0].stat().st_size - pixels.start - expected, row)
    else:
        check_stored(files[0], expected, DEFLATE_RATIO)
        _check_surplus(path, _inflated(files[0], pixels.start, expected + row) - expected, row)


def _check_surplus(path: Path, surplus: int, row: int) -> None:
    if surplus >= row:
        raise InputError(f"{path} holds more pixels than its header announces; mend the header, or {_AGAIN}.")


def _inflated(file: Path, start: int, enough: int) -> int:
    """Bytes that a compressed stream stands for, counted no further than up to `enough`."""
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    length = 0
    with file.open("rb") as stream:
        stream.seek(start)
        while length < enough and not inflater.eof:
            chunk = inflater.unconsumed_tail or stream.read(_CHUNK)
            if not chunk:
                break
            length += len(inflater.decompress(chunk, _CHUNK))
    return length


def _beside(path: Path, name: str) -> Path:
    """A file that a header names, if it may: the header's ending asks for one, and it lies in the same folder."""
    if not path.name.lower().endswith(_DETACHED):
        raise InputError(
            f"{path} names another file as its pixels ({shown(name)}), and a file of its ending holds them itself; "
            f"{_AGAIN}."
        )
    file = path.parent / name
    if name in ("", ".", "..") or "/" in name or PureWindowsPath(name).name != name or "\0" in name:
        raise InputError(
            f"{path} names {shown(name)} as its pixels; expected a file in the same folder, so move it there and give "
            "its name alone."
        )
    if file.is_symlink() or not file.is_file():
        what = "is a link" if file.is_symlink() else "does not exist"
        raise InputError(f"{path} names {shown(name)} as its pixels, which {what}; expected a file beside the header.")
    return file


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES)


def _whole_numbers(path: Path, what: str, text: str, count: int | None = None) -> tuple[int, ...]:
    words = text.split()
    if not words or count not in (None, len(words)) or not all(re.fullmatch(r"[0-9]{1,18}", word) for word in words):
        raise InputError(f"{path} states {what} {shown(text)}; expected whole numbers above 0, so {_AGAIN}.")
    numbers = tuple(map(int, words))
    if min(numbers) < 1:
        raise InputError(f"{path} states {what} {shown(text)}; expected whole numbers above 0, so {_AGAIN}.")
    return numbers


def _check_finite(path: Path, what: str, text: str, *, zeros: bool = True) -> None:
    """Refuses nan, infinity, what is no number and, for sizes of pixels, 0."""
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)) or (not zeros and 0 in numbers):
        expected = "finite numbers" if zeros else "finite numbers other than 0"
        raise InputError(f"{path} states {what} {shown(text)}; expected {expected}, so mend its header.")


def _pattern_files(path: Path, words: Sequence[str]) -> tuple[str, ...]:
    """Names that a pattern of C with a first number, a last one and a step stands for."""
    pattern, *numbers = words
    is_plain = re.fullmatch(r"[^%]*%0?[0-9]{0,2}d[^%]*", pattern) is not None and len(numbers) >= 3
    is_plain = is_plain and all(re.fullmatch("[0-9]{1,8}", number) for number in numbers[:3]) and numbers[2] != "0"
    first, last, step = map(int, numbers[:3]) if is_plain else (0, 0, 1)
    if not is_plain or not 0 <= last - first < _MAX_FILES * step:
        raise InputError(f"{path} names {shown(' '.join(words))} as its pixels, which no files are; {_AGAIN}.")
    return tuple(pattern % number for number in range(first, last + 1, step))


# ---- MetaImage

_MHA_LINE = re.compile(r"\s*(\w+)\s*[=:]\s*(.*)")
_MHA_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4}
_MHA_BYTES |= {"LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_MHA_PLACES = ("Offset", "Origin", "Position", "TransformMatrix", "Rotation", "Orientation", "CenterOfRotation")


def _read_mha(path: Path) -> _Pixels:
    fields = _mha_fields(path)
    values = fields.values
    name = values.get("ElementType", "").removeprefix("MET_").removesuffix("_ARRAY")
    if name not in _MHA_BYTES or "DimSize" not in values or "NDims" not in values:
        raise InputError(f"{path} cannot be read (it lacks NDims, DimSize or a known ElementType); {_AGAIN}.")
    (dimensions,) = _whole_numbers(path, "NDims", values["NDims"], 1)
    sizes = _whole_numbers(path, "DimSize", values["DimSize"], dimensions)
    (channels,) = _whole_numbers(path, "ElementNumberOfChannels", values.get("ElementNumberOfChannels", "1"), 1)
    for key in ("ElementSpacing", "ElementSize"):
        if key in values:
            _check_finite(path, key, values[key], zeros=False)
    for key in _MHA_PLACES:
        if key in values:
            _check_finite(path, key, values[key])
    files = _mha_files(path, fields)
    header = values.get("HeaderSize", "0")
    if not re.fullmatch(r"-1|[0-9]{1,15}", header) or (header != "0" and not files):
        raise InputError(f"{path} states a HeaderSize of {shown(header)} before its pixels; {_AGAIN}.")
    skipped = None if header == "-1" else int(header)
    encoding = "raw" if _is_true(values.get("BinaryData", "True")) else "text"
    if _is_true(values.get("CompressedData", "False")):
        encoding = "zlib"
        stored = values.get("CompressedDataSize", "0")
        size = path.stat().st_size if not files else _beside(path, files[0]).stat().st_size
        if not stored.isdigit() or len(stored) > 15 or int(stored) > size:
            raise InputError(f"{path} states a CompressedDataSize of {shown(stored)}, and holds less; {_AGAIN}.")
    return _Pixels((channels, *sizes), _MHA_BYTES[name], files, skipped if files else fields.end, encoding)


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _mha_fields(path: Path) -> _Fields:
    fields, content = _Fields(), _header(path)
    place = 0
    while (end := content.find(b"\n", place)) >= 0:
        line = content[place:end].decode("latin-1")
        place = end + 1
        found = _MHA_LINE.fullmatch(line.rstrip("\r"))
        if found is None:
            if line.strip():
                break
            continue
        fields.add(path, found[1], found[2])
        if found[1] == "ElementDataFile":
            fields.end = place
            fields.rest = content[place:].decode("latin-1").split("\n") if "LIST" in found[2].upper() else []
            return fields
    raise InputError(f"{path} cannot be read (it is no MetaImage: it names no ElementDataFile); {_AGAIN}.")


def _mha_files(path: Path, fields: _Fields) -> tuple[str, ...]:
    text = fields.values["ElementDataFile"]
    words = text.split()
    if not words or words[0].upper() == "LOCAL":
        return ()
    if words[0].upper() == "LIST":
        return tuple(line.strip() for line in fields.rest[:_MAX_FILES] if line.strip()) or ("",)
    return _pattern_files(path, words) if "%" in text else (text,)


# ---- NRRD

_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("uint64", "uint64_t", "double"), 8),
    "float": 4,
}
_NRRD_ENCODINGS = {"raw": "raw", "gz": "zlib", "gzip": "zlib", "txt": "text", "text": "text", "ascii": "text"}
_NRRD_ENCODINGS["hex"] = "text"
# Fields that are not made of numbers and known words, which ITK copies into a buffer of fixed length.
_NRRD_TEXTS, _LONGEST_WORD = ("content", "data file"), 250
_PLACED_KINDS = ("domain", "space", "time", "???", "none")


def _read_nrrd(path: Path) -> _Pixels:
    fields = _nrrd_fields(path)
    values = fields.values
    item, encoding = _NRRD_BYTES.get(values.get("type", "").lower()), values.get("encoding", "").lower()
    if item is None or encoding not in _NRRD_ENCODINGS or "sizes" not in values or "dimension" not in values:
        raise InputError(f"{path} cannot be read (it lacks dimension, sizes, a known type or encoding); {_AGAIN}.")
    (dimensions,) = _whole_numbers(path, "dimension", values["dimension"], 1)
    sizes = _whole_numbers(path, "sizes", values["sizes"], dimensions)
    _check_nrrd_place(path, values)
    skips = [values.get(name, values.get(name.replace(" ", ""), "0")) for name in ("line skip", "byte skip")]
    if not all(re.fullmatch(r"-1|[0-9]{1,15}", skip) for skip in skips) or skips[0] == "-1":
        raise InputError(f"{path} skips {shown(' and '.join(skips))} lines and bytes before its pixels; {_AGAIN}.")
    files = _nrrd_files(path, fields)
    if not files and any(skip != "0" for skip in skips):
        raise InputError(f"{path} skips a part of what it holds itself; {_AGAIN}.")
    is_known = skips[0] == "0" and (skips[1] == "0" or (encoding == "raw" and skips[1] != "-1"))
    start = (int(skips[1]) if files else fields.end) if is_known else None
    return _Pixels(sizes, item, files, start, _NRRD_ENCODINGS[encoding])


def _nrrd_fields(path: Path) -> _Fields:
    fields, content = _Fields(), _header(path)
    if not re.match(rb"NRRD000[1-6]\r?\n", content):
        raise InputError(f"{path} cannot be read (it is no NRRD file by how it begins); {_AGAIN}.")
    place = content.index(b"\n") + 1
    while (end := content.find(b"\n", place)) >= 0:
        line = content[place:end].decode("latin-1").rstrip("\r")
        place = end + 1
        if not line:
            break
        if line.startswith("#") or re.match(r"[^:]*:=", line):  # comments, and keys of the user's own
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise InputError(f"{path} has a header with a line that says nothing ({shown(line)}); {_AGAIN}.")
        name = name.strip().lower().replace("datafile", "data file")
        words = [name] if name in _NRRD_TEXTS else [name, *value.split()]
        if any(len(word) > _LONGEST_WORD for word in words):
            raise InputError(f"{path} states {shown(value.strip())} as {shown(name)}, which is none; {_AGAIN}.")
        fields.add(path, name, value)
        if fields.values.get("data file", "").upper().startswith("LIST"):
            fields.rest = content[place:].decode("latin-1").splitlines()
            break
    else:
        if "data file" not in fields.values:
            raise InputError(f"{path} ends within its header; copy or export it again.")
    fields.end = place
    return fields


def _nrrd_files(path: Path, fields: _Fields) -> tuple[str, ...]:
    if "data file" not in fields.values:
        return ()
    text = fields.values["data file"]
    if text.upper().startswith("LIST"):
        return tuple(line.strip() for line in fields.rest[:_MAX_FILES] if line.strip()) or ("",)
    return _pattern_files(path, text.split()) if "%" in text else (text,)


def _check_nrrd_place(path: Path, values: dict[str, str]) -> None:
    """Sizes and directions of all axes but those that hold the values of a pixel."""
    kinds = values.get("kinds", "").lower().split()
    if "spacings" in values:
        words = values["spacings"].split()
        placed = [
            word
            for index, word in enumerate(words)
            if word.lower() != "nan" or index >= len(kinds) or kinds[index] in _PLACED_KINDS
        ]
        _check_finite(path, "spacings", " ".join(placed), zeros=False)
    if "space directions" in values:
        vectors = re.findall(r"\(([^()]*)\)", values["space directions"])
        for vector in vectors:
            _check_finite(path, "space directions", vector.replace(",", " "))
        if not vectors or any(len(vector.split(",")) != len(vectors) for vector in vectors):
            raise InputError(
                f"{path} states space directions {shown(values['space directions'])}; expected one for every axis of "
                "space, so mend its header."
            )
    if "space origin" in values:
        _check_finite(path, "space origin", values["space origin"].strip("()").replace(",", " "))


# ---- GIPL

_GIPL_HEADER = 256
_GIPL_BYTES = {7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}


def _read_gipl(path: Path) -> _Pixels:
    header = _header(path)[:_GIPL_HEADER]
    if len(header) < _GIPL_HEADER:
        raise InputError(f"{path} is cut off: it holds {len(header)} bytes, its header has {_GIPL_HEADER}.")
    sides, kind, spacing = struct.unpack_from(">4H", header), *struct.unpack_from(">H", header, 8), header[10:26]
    sizes = sides[: 4 if sides[3] > 1 else 3]
    if kind not in _GIPL_BYTES or min(sizes) < 1:
        raise InputError(f"{path} cannot be read (it has no known type, or no sizes above 0); export it again.")
    stated = " ".join(map(str, struct.unpack(">4f", spacing)[: len(sizes)]))
    _check_finite(path, "a pixel size of", stated, zeros=False)
    return _Pixels(sizes, _GIPL_BYTES[kind], (), _GIPL_HEADER)
