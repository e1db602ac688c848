"""Which DICOM files of a folder, at any depth, make which images."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnsam.errors import InputError
from nnsam.io.dicom.headers import Header, looks_like_dicom, read_header

ENDINGS = (".dcm", ".dicom", ".ima")
_LISTED = 10


@dataclass(frozen=True)
class DicomInput:
    """Files that make one image.

    Attributes:
        folder: that holds them, for messages and names.
        headers: of the files; of one for a picture or an enhanced volume.
        notices: what the user has to know of the folder.
        refusal: why they make no image, a sentence; empty mostly.
        is_single_file: one file is the image, which is called by the file; else by the folder.
    """

    folder: Path
    headers: tuple[Header, ...]
    notices: tuple[str, ...] = ()
    refusal: str = ""
    is_single_file: bool = False


@dataclass
class _Found:
    headers: list[Header] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)  # DICOM objects that are no images
    unreadable: list[str] = field(default_factory=list)


def walk(folder: Path) -> Iterator[Path]:
    """All files in a folder, at any depth, sorted, without hidden ones; links are followed, loops are not."""
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(place, name).is_file():
                yield Path(place, name)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its ending or its content; DICOMDIR, which lists others, is not."""
    return path.name.upper() != "DICOMDIR" and (path.name.lower().endswith(ENDINGS) or looks_like_dicom(path))


def find_dicom(folder: Path, series: str | None = None) -> list[DicomInput]:
    """Finds the images in a folder, at any depth.

    A series of slices is one image, and so is an enhanced multi-frame file. Radiographs and other pictures without a
    place in the patient are taken one by one, also where they have one series, and so are slices that are the only ones
    of their series.

    Args:
        folder: to be searched.
        series: Series Instance UID of the only series that is wanted.

    Returns:
        The images, sorted by folder and name; none where there is no DICOM file.

    Raises:
        InputError: several series right in `folder`, or no series of that identifier.
        SetupError: pydicom is not installed.
    """
    found: dict[Path, _Found] = defaultdict(_Found)
    for path in walk(folder):
        if not is_dicom(path):
            continue
        try:
            header = read_header(path)
        except InputError as error:
            found[path.parent].unreadable.append(str(error))
            continue
        if header is None:
            found[path.parent].others.append(path)
        else:
            found[path.parent].headers.append(header)
    if series is not None:
        _keep_series(folder, found, series)
    _join_folders(found)
    return [one for place in sorted(found) for one in _inputs(folder, place, found[place])]


def _keep_series(folder: Path, found: dict[Path, _Found], series: str) -> None:
    everything = [header for place in found.values() for header in place.headers]
    for place in found.values():
        place.headers = [header for header in place.headers if header.series == series]
        place.others, place.unreadable = [], []
    if not any(place.headers for place in found.values()):
        listed = f"it holds {describe_series(everything)}" if everything else "it holds no DICOM images"
        raise InputError(f"{folder} holds no series {series}; {listed}.")


def _join_folders(found: dict[Path, _Found]) -> None:
    """Joins a series that lies in several folders, as some exports cut it, in the first of them.

    Copies of one series, and series of several patients that got one identifier, have images at the same places; those
    stay apart.
    """
    where: dict[tuple[str, str, str], list[Path]] = defaultdict(list)
    for place in sorted(found):
        for key in {(one.patient, one.study, one.series) for one in found[place].headers if one.is_placed}:
            where[key].append(place)
    for (patient, study, series), places in where.items():
        if len(places) < 2:
            continue
        parts = [
            [one for one in found[place].headers if (one.patient, one.study, one.series) == (patient, study, series)]
            for place in places
        ]
        positions = [frame.position for part in parts for one in part for frame in one.frames]
        if len(set(positions)) < len(positions) or any(len(one.frames) > 1 for part in parts for one in part):
            continue
        for place, part in zip(places[1:], parts[1:], strict=True):
            found[places[0]].headers += part
            found[place].headers = [one for one in found[place].headers if one not in part]


def _inputs(root: Path, place: Path, found: _Found) -> Iterator[DicomInput]:
    notices = _told(found)
    pictures = [one for one in found.headers if len(one.frames) == 1 and not one.is_placed]
    films = [one for one in found.headers if len(one.frames) > 1 and not one.is_placed]
    groups: dict[tuple[str, str, str], list[Header]] = defaultdict(list)
    for one in found.headers:
        if one.is_placed and len(one.frames) == 1:
            groups[one.series, "", ""].append(one)
        elif one.is_placed:
            groups[one.series, one.concatenation, "" if one.concatenation else str(one.path)].append(one)
    volumes = list(groups.values())
    # Slices of a modality that scans are a volume whose order cannot be known, not pictures.
    lost = [one for one in pictures if one.modality in ("CT", "MR", "PT") and len(pictures) > 1]
    if lost:
        files = ", ".join(one.path.name for one in lost[:3])
        yield DicomInput(
            place,
            tuple(lost),
            notices,
            (
                f"{place}: {len(lost)} {lost[0].modality} images say nothing of their position or orientation "
                f"({files}), so that their order is unknown; segment them one by one, or export the series again."
            ),
        )
        pictures = [one for one in pictures if one not in lost]
    if found.unreadable:
        refusal = found.unreadable[0]
        if len(found.unreadable) > 1:
            refusal += f" {len(found.unreadable) - 1} more files of {place} are so, too."
        yield DicomInput(place, (), (), refusal)
        if volumes and place == root:
            raise InputError(refusal)
    singles = all(len(group) == 1 and len(group[0].frames) == 1 for group in volumes)
    if volumes and (len(volumes) > 1 or pictures or films) and not singles:
        refusal = (
            f"{place} holds {describe_series(found.headers)}; choose one with --series UID (in Python series=...), "
            "or give each a folder of its own."
        )
        if place == root:
            raise InputError(refusal)
        yield DicomInput(place, tuple(found.headers), notices, refusal)
        return
    if found.unreadable and volumes:
        return  # a slice might be lacking
    if singles and len(volumes) + len(pictures) > 1:
        pictures, volumes = pictures + [group[0] for group in volumes], []
    for group in volumes:
        yield DicomInput(place, tuple(group), notices)
    for one in sorted([*pictures, *films], key=lambda one: one.path.name):
        yield DicomInput(place, (one,), notices, is_single_file=True)


def _told(found: _Found) -> tuple[str, ...]:
    if not found.others:
        return ()
    names = ", ".join(path.name for path in found.others[:4]) + (", ..." if len(found.others) > 4 else "")
    are = "it is" if len(found.others) == 1 else "they are"
    return (f"{found.others[0].parent}: left out, as {are} no image: {names}.",)


def describe_series(headers: Sequence[Header]) -> str:
    """Lists series, their patients where there are several, modalities, descriptions and numbers of images."""
    groups: dict[tuple[str, str], list[Header]] = defaultdict(list)
    for one in headers:
        groups[one.patient, one.series].append(one)
    several = len({patient for patient, _ in groups}) > 1
    listed = []
    for (patient, series), group in groups.items():
        frames = sum(len(one.frames) for one in group)
        about = [group[0].modality, group[0].description, f"patient {patient}" if several else ""]
        images = f"{frames} image{'s' if frames != 1 else ''}"
        listed.append(f"{series or 'no UID'} ({', '.join([*filter(None, about), images])})")
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"{len(listed)} DICOM series: {'; '.join(listed[:_LISTED])}{more}"
