"""Several npz sets as one raw nnU-Net data set of 8-bit RGB pictures, to train box prompts on."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.data.atomic import atomic_folder
from nnsam.data.eight_bit import to_eight_bit, to_rgb
from nnsam.data.image_files import write_png
from nnsam.data.npz_case import NpzCase, read_npz_case
from nnsam.data.npz_dataset import find_npz_files
from nnsam.data.object_labels import instance_labels, object_label_names
from nnsam.data.patients import fixed_fold, patient_folds, patient_ids
from nnsam.data.raw_dataset import check_dataset_folder_name, image_name, write_dataset_json
from nnsam.errors import InputError

CHANNEL_NAMES = ("red", "green", "blue")  # nnU-Net normalises these by z-score; "R", "G", "B" in its plans too
_DESCRIPTION = (
    "Box prompts: label values only tell objects apart. A connected component of an instance_* label is one object; "
    "of an object_* label, a connected component or the whole label."
)


@dataclass(frozen=True)
class PromptConversion:
    """What a conversion wrote.

    Attributes:
        pictures: set -> number of training pictures, validation included.
        test_pictures: number of pictures in imagesTs.
        patients: number of patients among the training pictures.
        folds: number of folds in splits_final.json; 0 where there is no such file.
        labels: class name -> value, background included.
    """

    pictures: dict[str, int]
    test_pictures: int
    patients: int
    folds: int
    labels: dict[str, int]


@dataclass(frozen=True)
class _Source:
    """One npz file and what it is called in the data set."""

    set_name: str
    split: str
    path: Path

    @property
    def part(self) -> str:
        return "Ts" if self.split == "test" else "Tr"

    @property
    def identifier(self) -> str:
        return f"{_safe(self.set_name)}__{_safe(self.path.stem)}"


def convert_prompt_dataset(
    sources: Sequence[str | Path],
    destination: str | Path,
    *,
    name: str | None = None,
    splits: Sequence[str] = ("train",),
    patient_pattern: str | None = None,
    progress: Callable[[list[_Source]], Iterable[_Source]] = iter,
) -> PromptConversion:
    """Writes one raw nnU-Net data set of pictures with objects; it appears complete or not at all.

    Every case becomes an RGB PNG `<set>__<case>`, grey repeated; volumes are sliced along their first axis as
    `<set>__<case>_z012`. Pictures and slices without objects are left out. 8-bit intensities stay as they are, others
    are clipped to the 0.5th and 99.5th percentile of the image or volume (`eight_bit.to_eight_bit`).

    Labels have one numbering for all sets. Where a case has `inst`, its instances become instance_1..k, coloured such
    that no two of one colour touch; elsewhere the classes of `gts` stay and are called object_1..m, with m the
    highest class over all cases without `inst`.

    splits_final.json holds folds that never part a patient (`patients.patient_ids`), or, if `splits` names val beside
    train, the one fold that validates on the patients of val. With one patient only, it is not written.

    Args:
        sources: folders with the subfolders train, val, test; the folder's name is the set's.
        destination: DatasetXXX_Name, absent or empty.
        name: name in dataset.json; the folder's by default.
        splits: subfolders to convert. train and val go to imagesTr, test to imagesTs. A set without one of them is an
            error only if it has none of them.
        patient_pattern: regular expression for the patient in a case's name.
        progress: wraps the list of files, for a progress bar.

    Raises:
        InputError: nothing to convert, bad cases, model predictions as labels, or a destination that cannot be used.
    """
    folder_name = check_dataset_folder_name(destination)
    files = _find_files(sources, splits)
    patient_of = _patients(files, patient_pattern)
    classes = _highest_class(files)
    pictures: dict[str, _Source] = {}
    colours = tests = 0
    with atomic_folder(destination) as draft:
        for source in progress(files):
            for identifier, picture, labels in _pictures(source, classes):
                write_png(draft / f"images{source.part}" / image_name(identifier, ".png"), picture)
                write_png(draft / f"labels{source.part}" / f"{identifier}.png", labels)
                colours = max(colours, int(labels.max()) - classes)
                tests += source.part == "Ts"
                if source.part == "Tr":
                    pictures[identifier] = source
        label_names = object_label_names(classes, colours)
        write_dataset_json(
            draft,
            name=name or folder_name,
            channel_names=CHANNEL_NAMES,
            labels=label_names,
            num_training=len(pictures),
            file_ending=".png",
            description=_DESCRIPTION,
        )
        patients = {key: patient_of[source.set_name, source.path.stem] for key, source in pictures.items()}
        folds = _write_folds(draft, pictures, patients)
    counts = Counter(source.set_name for source in pictures.values())
    return PromptConversion(dict(counts), tests, len(set(patients.values())), folds, label_names)


def _safe(text: str) -> str:
    """Only ASCII letters, digits, single underscores and hyphens, so that `__` parts set and case."""
    return re.sub(r"__+", "_", re.sub(r"[^A-Za-z0-9_-]+", "-", text))


def _find_files(folders: Sequence[str | Path], splits: Sequence[str]) -> list[_Source]:
    files: list[_Source] = []
    for folder in map(Path, folders):
        set_name = folder.absolute().name
        if set_name.endswith("_PREDICTED"):
            raise InputError(f"The labels of {folder} are predictions of a model, not annotations; leave it out.")
        present = [split for split in splits if (folder / split).is_dir()] if folder.is_dir() else splits
        files += [_Source(set_name, split, path) for split, path in find_npz_files(folder, present or splits)]
    seen: dict[tuple[str, str], Path] = {}
    for file in files:
        key = (file.part, file.identifier.casefold())
        if key in seen:
            raise InputError(
                f"{seen[key]} and {file.path} would both be called {file.identifier}; rename one or leave it out."
            )
        seen[key] = file.path
    return files


def _patients(files: list[_Source], pattern: str | None) -> dict[tuple[str, str], str]:
    cases: dict[str, list[str]] = {}
    for file in files:
        if file.part == "Tr":
            cases.setdefault(file.set_name, []).append(file.path.stem)
    return patient_ids(cases, pattern)


def _read(source: _Source) -> NpzCase:
    try:
        return read_npz_case(source.path, with_instances=True)
    except InputError as error:
        if "lacks the key gts" in str(error):
            raise InputError(f"{source.path} has no masks (key gts); leave {source.set_name} out.") from error
        raise


def _highest_class(files: list[_Source]) -> int:
    """The highest class over the cases without instances; reads all cases, so that bad ones are found first."""
    cases = (_read(source) for source in files)
    return max((int(case.labels.max()) for case in cases if case.instances is None), default=0)


def _pictures(source: _Source, classes: int) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """(identifier, (H, W, 3), (H, W)) of a case's picture, or of each slice; only those with objects."""
    case = _read(source)
    objects = case.labels if case.instances is None else case.instances
    image = to_eight_bit(case.image)
    is_volume = objects.ndim == 3
    slices = zip(image, objects, strict=True) if is_volume else iter([(image, objects)])
    for index, (picture, found) in enumerate(slices):
        if found.any():
            if case.instances is None:
                object_label_names(classes, 0)  # they fit into a byte
                labels = found.astype(np.uint8)
            else:
                labels = instance_labels(found, classes)
            suffix = f"_z{index:03d}" if is_volume else ""
            yield source.identifier + suffix, to_rgb(picture, case.channels == 3), labels


def _write_folds(folder: Path, pictures: dict[str, _Source], patients: dict[str, str]) -> int:
    """Writes splits_final.json where patients can be divided; returns the number of folds."""
    validation = {identifier for identifier, source in pictures.items() if source.split == "val"}
    folds = fixed_fold(patients, validation)
    if not validation or not folds[0]["train"]:
        folds = patient_folds(patients, {identifier: source.set_name for identifier, source in pictures.items()})
    if folds:
        (folder / "splits_final.json").write_text(json.dumps(folds, indent=1) + "\n", encoding="utf-8")
    return len(folds)
