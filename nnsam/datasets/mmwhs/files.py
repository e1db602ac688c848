"""Files of a data set in a folder or in a zip archive, found by name and handed out one at a time."""

import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.finding import visible
from nnsam.support.drafts import temporary_folder

NAMES = {500: "LV", 600: "RV", 420: "LA", 550: "RA", 205: "Myo", 820: "AA", 850: "PA"}

# In nnSAM's order: a class's label is its place, from 1.
CLASSES = {"paper": (500, 600, 420, 550, 205), "all": (500, 600, 420, 550, 205, 820, 850)}

_STRAY = {421: 420}
_UNKNOWN = 255


def class_labels(classes: str) -> dict[str, int]:
    """Class name -> label in the converted data, background included.

    Args:
        classes: "paper" (LV, RV, LA, RA, Myo) or "all" (also AA, ascending aorta, and PA, pulmonary artery).

    Raises:
        InputError: another word.

    Example:
        >>> class_labels("paper")
        {'background': 0, 'LV': 1, 'RV': 2, 'LA': 3, 'RA': 4, 'Myo': 5}
    """
    if classes not in CLASSES:
        raise InputError(f"The choice of classes {classes!r} is unknown; expected {' or '.join(CLASSES)}.")
    return {"background": 0, **{NAMES[value]: label for label, value in enumerate(CLASSES[classes], 1)}}


def map_labels(values: NDArray, classes: str, source: str) -> tuple[NDArray[np.uint8], int]:
    """Turns MM-WHS's values into labels 1, 2, 3, ...; structures that are not wanted become background.

    Args:
        values: any shape and real type, MM-WHS's values.
        classes: "paper" or "all".
        source: the file, for messages.

    Returns:
        Labels of the same shape, and the number of voxels of the stray value 421.

    Raises:
        InputError: values that MM-WHS does not have.
    """
    class_labels(classes)
    if values.dtype.kind == "f":
        whole = values.astype(np.int32)
        if not np.array_equal(whole, values):
            raise _unknown_values(values, source)
        values = whole
    table = np.full(max(NAMES) + 2, _UNKNOWN, np.uint8)
    table[[0, *NAMES, *_STRAY]] = 0
    for label, value in enumerate(CLASSES[classes], 1):
        table[value] = label
    for stray, value in _STRAY.items():
        table[stray] = table[value]
    if values.min() < 0 or values.max() >= len(table):
        raise _unknown_values(values, source)
    labels = table[values]
    if (labels == _UNKNOWN).any():
        raise _unknown_values(values, source)
    return labels, sum(int(np.count_nonzero(values == stray)) for stray in _STRAY)


def absent_classes(present: Sequence[int] | set[int], classes: str) -> list[str]:
    """Names of the wanted classes that are not among the labels found.

    Args:
        present: labels as `map_labels` gives them.
        classes: "paper" or "all".
    """
    return [name for name, label in class_labels(classes).items() if label and label not in present]


def _unknown_values(values: NDArray, source: str) -> InputError:
    unique, counts = np.unique(values, return_counts=True)
    unknown = ~np.isin(unique, [0, *NAMES, *_STRAY])
    found = [f"{value:g}" for value in unique[unknown]]
    listed = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return InputError(
        f"{source} holds label values that are not MM-WHS's: {listed} ({counts[unknown].sum()} voxels); expected 0, "
        f"{', '.join(map(str, sorted(NAMES)))}. Is it an image, or a label file that was converted before?"
    )


_DEPTH = 4  # folders below the source that are looked into: enough for every copy of the data, too few for a whole disk
_LARGEST_MEMBER = 1 << 33  # bytes; MM-WHS's volumes have under 0.5 GB


@dataclass(frozen=True)
class SourceFile:
    """One file.

    Attributes:
        place: where it lies, for messages.
        folders: names of the folders above it, innermost first, the source's own name last.
        name: its name.
        open: gives a path that can be read as long as the context lasts.
    """

    place: str
    folders: tuple[str, ...]
    name: str
    open: Callable[[], AbstractContextManager[Path]]


@dataclass(frozen=True)
class Pair:
    """Image and label of one case; `key` holds what the names say besides image or label."""

    key: tuple[str, ...]
    image: SourceFile
    label: SourceFile | None


@contextmanager
def open_source(source: Path) -> Iterator[list[SourceFile]]:
    """Lists the files of a folder (and four levels below it) or of a zip archive; hidden ones are left out.

    Nothing is extracted by the names in an archive: a member is copied, when it is asked for, to a temporary folder
    under a name of our own, and removed after use.

    Args:
        source: folder or zip archive.

    Raises:
        InputError: neither.
    """
    if source.is_dir():
        yield [_in_folder(source, path) for path in _walk(source, _DEPTH)]
    elif source.is_file() and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive, temporary_folder() as scratch:
            members = [member for member in archive.infolist() if not member.is_dir()]
            yield [_in_archive(source, archive, member, scratch) for member in members if _is_visible(member)]
    elif source.exists():
        raise InputError(f"{source} is neither a folder nor a zip archive, or the archive is cut off.")
    else:
        raise InputError(f"{source} does not exist.")


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = visible(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror or error}).") from error
    for entry in entries:
        if entry.is_dir():
            if depth:
                yield from _walk(entry, depth - 1)
        else:
            yield entry


def _is_visible(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    return not any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts)


def _in_folder(source: Path, path: Path) -> SourceFile:
    @contextmanager
    def opened() -> Iterator[Path]:
        yield path

    folders = (*reversed(path.relative_to(source).parts[:-1]), source.absolute().name)
    return SourceFile(str(path), folders, path.name, opened)


def _in_archive(source: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, scratch: Path) -> SourceFile:
    parts = PurePosixPath(member.filename).parts
    place = f"{source}/{member.filename}"

    @contextmanager
    def opened() -> Iterator[Path]:
        # The reader chooses the format by the ending; nothing else of the member's name is used.
        ending = "".join(PurePosixPath(parts[-1]).suffixes[-2:]) if parts[-1].lower().endswith(".gz") else ".nii"
        copy = scratch / f"{archive.infolist().index(member)}{ending.lower()}"
        try:
            _copy_member(archive, member, place, copy)
            yield copy
        except InputError as error:  # which names the copy, and the user knows the archive
            raise InputError(str(error).replace(str(copy), place)) from error
        finally:
            copy.unlink(missing_ok=True)

    return SourceFile(place, (*reversed(parts[:-1]), source.absolute().stem), parts[-1], opened)


def _copy_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str, copy: Path) -> None:
    if member.file_size > _LARGEST_MEMBER:
        raise InputError(f"{place} would take {member.file_size / 1e9:.0f} GB; no file of MM-WHS does.")
    try:
        with archive.open(member) as packed, copy.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        raise InputError(f"{place} cannot be read ({str(error).rstrip('.')}).") from error


def pair_files(files: list[SourceFile], pattern: re.Pattern[str]) -> list[Pair]:
    """Pairs images with labels, in the order of their keys.

    Args:
        files: all of them must match.
        pattern: full match of a name; the group `kind` says image or label (by "im" or "la", its first letters), all
            other groups together are the key.

    Raises:
        InputError: two files for one place, or a label without an image. An image without a label is left to the
            caller: test images have none.
    """
    found: dict[tuple[str, ...], dict[str, SourceFile]] = {}
    for file in files:
        match = pattern.fullmatch(file.name)
        assert match is not None, file.name
        groups = {name: text.lower() for name, text in match.groupdict().items()}
        kind = groups.pop("kind")[:2]
        other = found.setdefault(tuple(groups.values()), {}).setdefault(kind, file)
        if other is not file:
            raise InputError(
                f"{other.place} and {file.place} are the same {'image' if kind == 'im' else 'label'}; leave one of "
                "them out, or give the folder that holds only one."
            )
    for parts in found.values():
        if "im" not in parts:
            raise InputError(f"{parts['la'].place} has no image beside it; add the image or remove the label file.")
    return [Pair(key, parts["im"], parts.get("la")) for key, parts in sorted(found.items(), key=_numeric)]


def _numeric(item: tuple[tuple[str, ...], object]) -> list[tuple[int, str]]:
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in item[0]]
