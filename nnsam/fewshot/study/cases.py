"""The cases of a study: what is known of each before training, and raw data sets made of a part of them."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnsam.errors import InputError
from nnsam.io.finding import group_channels, image_name, visible
from nnsam.io.image import Geometry, Tolerance, Tolerances
from nnsam.io.reading import read_header, read_labels
from nnsam.metrics.classes import Classes
from nnsam.nnunet.raw_dataset import SourceCase
from nnsam.support.files import sha256_of_file, write_json

# Of spacings, relative; of directions, absolute; of origins, in pixels. Writers round these numbers.
_TOLERANCE = 1e-3
_ORIGIN_TOLERANCE = 0.5


@dataclass(frozen=True)
class CheckedCase:
    """A case whose files were read.

    Attributes:
        sha256: over image files and label file, see :func:`hash_files`.
        classes: names of the classes that its label map holds.
    """

    sha256: str
    classes: frozenset[str]


def hash_files(paths: Sequence[Path]) -> str:
    """SHA-256 over the SHA-256 of each file's bytes, in the given order.

    Raises:
        InputError: a file cannot be read.
    """
    total = hashlib.sha256()
    for path in paths:
        try:
            total.update(bytes.fromhex(sha256_of_file(path)))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}); restore it") from error
    return total.hexdigest()


def check_case(case: SourceCase, classes: Classes) -> CheckedCase:
    """Hashes a case's files and checks its label values and geometry.

    Args:
        case: the files.
        classes: those of dataset.json.

    Raises:
        InputError: an unreadable file, a value that no class has, or image and label of different size, spacing,
            origin or direction.
    """
    digest = hash_files([*case.images, case.label])
    values = np.unique(read_labels(case.label).pixels)
    classes.check_values(values, str(case.label), with_ignore=True)
    for image in case.images:
        _compare(image, case.label)
    found = {name for name, members in classes.values.items() if np.isin(members, values).any()}
    return CheckedCase(digest, frozenset(found))


def _compare(image: Path, label: Path) -> None:
    (size, found), (expected_size, expected) = read_header(image), read_header(label)
    if len(size) == len(expected_size) + 1 and size[0] in (3, 4):  # the colours of a TIFF
        size = size[1:]
    if size != expected_size:
        raise _different("size", size, expected_size, image, label)
    if expected is None:
        return
    tolerances = Tolerances(
        spacing=Tolerance(_TOLERANCE, 0.0),
        origin=Tolerance(0.0, _ORIGIN_TOLERANCE * min(expected.spacing)),
        direction=Tolerance(0.0, _TOLERANCE),
    )
    found = found or Geometry((), (), ())
    for key in found.differences(expected, tolerances):
        raise _different(key, getattr(found, key), getattr(expected, key), image, label)


def _different(key: str, found: Sequence[float], expected: Sequence[float], image: Path, label: Path) -> InputError:
    return InputError(
        f"{image} and {label} differ in their {key} ({_text(found)} and {_text(expected)}); expected image and "
        "label of the same geometry: resample one of them"
    )


def _text(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values) or "none"


def link(source: Path, destination: Path) -> None:
    """Makes a file appear under a second name: a hard link, or a copy where links are not possible.

    Raises:
        InputError: neither could be made.
    """
    source = source.resolve()  # a link to a symbolic link would depend on what that points to
    try:
        os.link(source, destination)
        return
    except OSError:
        pass  # another disk, a file system without links, or a file of another user
    try:
        shutil.copyfile(source, destination)
    except OSError as error:
        raise InputError(f"{destination} cannot be made from {source} ({error.strerror or error})") from error


def write_cases(folder: Path, part: str, cases: Iterable[SourceCase], file_ending: str) -> None:
    """Puts cases into images<part> and labels<part> of a folder.

    Args:
        folder: of the data set.
        part: "Tr" or "Ts".
        cases: the cases.
        file_ending: of images and labels.
    """
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    for made in (images, labels):
        made.mkdir(parents=True, exist_ok=True)
    for case in cases:
        for channel, path in enumerate(case.images):
            link(path, images / image_name(case.name, file_ending, channel))
        link(case.label, labels / f"{case.name}{file_ending}")


def write_raw_dataset(folder: Path, cases: Mapping[str, SourceCase], dataset: Mapping[str, Any]) -> None:
    """Writes a raw nnU-Net data set.

    Args:
        folder: DatasetXXX_Name, to be made.
        cases: name -> files of its training and validation cases.
        dataset: dataset.json of the data set that they are from; its name and numTraining are replaced.
    """
    write_cases(folder, "Tr", cases.values(), dataset["file_ending"])
    content = {**dataset, "name": folder.name, "numTraining": len(cases)}
    write_json(folder / "dataset.json", content, indent=2)


def read_cases(
    folder: Path, part: str, names: Iterable[str], file_ending: str, hashes: Mapping[str, str]
) -> dict[str, SourceCase]:
    """The cases of a folder that `write_cases` made, if they are still the ones that the study was made with.

    Args:
        folder: of the data set.
        part: "Tr" or "Ts".
        names: of the cases that it must hold, and no others.
        file_ending: of images and labels.
        hashes: case -> SHA-256 of its files.

    Returns:
        name -> files, sorted.

    Raises:
        InputError: a case is missing, changed, or one too many.
    """
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    expected = set(names)
    found, others = group_channels(visible(images), file_ending)
    found |= {path.name.removesuffix(file_ending): {} for path in others if path.name.endswith(file_ending)}
    present = {path.name[: -len(file_ending)] for path in visible(labels) if path.name.endswith(file_ending)}
    for name in sorted(expected ^ found.keys() | expected ^ present):
        what = "lacks files of" if name in expected else "holds files of the further"
        raise InputError(f"{folder} {what} case {name}, so that it was edited after `prepare`; {_MEND}")
    cases = {
        name: SourceCase(name, tuple(found[name].values()), labels / f"{name}{file_ending}")
        for name in sorted(expected)
    }
    for name, case in cases.items():
        if hash_files([*case.images, case.label]) != hashes.get(name):
            raise InputError(
                f"image or label of case {name} in {folder} is not the one that `prepare` found (other SHA-256; a hard "
                f"link changes with the file in the source data set); {_MEND}"
            )
    return cases


_MEND = "restore the files, or prepare a new study in another folder"
