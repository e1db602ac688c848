"""Raw nnU-Net data sets made of a part of another one's cases, without copying their files where the disk allows."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnsam.data.raw_dataset import image_name
from nnsam.errors import InputError
from nnsam.fewshot.case_checks import hash_files
from nnsam.fewshot.sources import SourceCase


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
    (folder / "dataset.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


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
    found: dict[str, list[Path]] = {}
    for path in sorted(images.glob(f"*{file_ending}")):
        found.setdefault(path.name[: -len(file_ending) - 5], []).append(path)
    present = {path.name[: -len(file_ending)] for path in labels.glob(f"*{file_ending}")}
    for name in sorted(expected ^ found.keys() | expected ^ present):
        what = "lacks files of" if name in expected else "holds files of the further"
        raise InputError(f"{folder} {what} case {name}, so that it was edited after `prepare`; {_MEND}")
    cases = {name: SourceCase(name, tuple(found[name]), labels / f"{name}{file_ending}") for name in sorted(expected)}
    for name, case in cases.items():
        if hash_files([*case.images, case.label]) != hashes.get(name):
            raise InputError(
                f"image or label of case {name} in {folder} is not the one that `prepare` found (other SHA-256; a hard "
                f"link changes with the file in the source data set); {_MEND}"
            )
    return cases


_MEND = "restore the files, or prepare a new study in another folder"
