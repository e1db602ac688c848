"""Several npz sets as one raw nnU-Net data set of 8-bit RGB pictures, to train box prompts on."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.datasets.challenge import find_npz_files
from nnsam.datasets.patients import fixed_fold, patient_folds, patient_ids
from nnsam.errors import InputError
from nnsam.io.finding import image_name
from nnsam.io.image import to_eight_bit, to_rgb
from nnsam.io.npz import NpzCase, read_npz_case
from nnsam.io.writing import write_png
from nnsam.nnunet.raw_dataset import check_dataset_folder_name, write_dataset_json
from nnsam.support.files import atomic_folder, write_json

MAX_VALUE = 255  # label pictures have 8 bits
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # half of the 8; the others are the same pairs in reverse


def colour_instances(instances: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Gives each instance a colour, such that no two instances of one colour touch, corners included.

    Greedy: instances with the most neighbours first, each the lowest colour that no neighbour has (Welsh and Powell,
    The Computer Journal 10, 1967). The colours are as many as needed for the most crowded instance, often fewer.

    Args:
        instances: (H, W), 0 the background, any other value one instance, of one component or several.

    Returns:
        (H, W), 0 the background, colours 1..k without gaps.

    Raises:
        InputError: more than 255 colours.

    Example:
        >>> colour_instances(np.array([[7, 7, 9], [0, 0, 9], [3, 0, 0]]))
        array([[1, 1, 2],
               [0, 0, 2],
               [1, 0, 0]], dtype=uint8)
    """
    ids, dense = np.unique(instances, return_inverse=True)
    dense = dense.reshape(instances.shape)
    neighbours: dict[int, set[int]] = {index: set() for index, value in enumerate(ids.tolist()) if value != 0}
    for first, second in _touching_pairs(instances, dense):
        neighbours[first].add(second)
        neighbours[second].add(first)
    colours = np.zeros(len(ids), int)
    for index in sorted(neighbours, key=lambda index: (-len(neighbours[index]), index)):
        taken = {int(colours[other]) for other in neighbours[index]}
        colours[index] = next(colour for colour in range(1, len(ids) + 1) if colour not in taken)
    if colours.max(initial=0) > MAX_VALUE:
        raise InputError(
            f"The instances touch so many others that {colours.max()} colours are needed; at most 255 fit."
        )
    return colours.astype(np.uint8)[dense]


def _touching_pairs(instances: NDArray[np.integer], dense: NDArray[np.integer]) -> list[tuple[int, int]]:
    """Pairs of dense indices of different instances that have pixels side by side or at a corner."""
    height, width = instances.shape
    found: set[tuple[int, int]] = set()
    for down, right in _NEIGHBOURS:
        here = np.s_[: height - down, max(0, -right) : width - max(0, right)]
        there = np.s_[down:, max(0, right) : width + min(0, right)]
        touching = (instances[here] != instances[there]) & (instances[here] != 0) & (instances[there] != 0)
        pairs = np.stack([dense[here][touching], dense[there][touching]], axis=1)
        found.update((first, second) for first, second in np.unique(pairs, axis=0).tolist())
    return sorted(found)


def object_label_names(classes: int, colours: int) -> dict[str, int]:
    """Names and values of a data set: object_1..object_m for classes, then instance_1..instance_k for colours.

    Args:
        classes: m, the highest class of the cases without instances.
        colours: k, the highest colour of the cases with instances.

    Raises:
        InputError: no labels at all, or more than 255.
    """
    if not 1 <= classes + colours <= MAX_VALUE:
        raise InputError(
            f"The data hold {classes} classes and {colours} instance colours; together they must be 1 to {MAX_VALUE}."
        )
    names = {"background": 0, **{f"object_{value}": value for value in range(1, classes + 1)}}
    return {**names, **{f"instance_{colour}": classes + colour for colour in range(1, colours + 1)}}


def instance_labels(instances: NDArray[np.integer], classes: int) -> NDArray[np.uint8]:
    """The label map of a picture with instances: 0, or `classes` + colour.

    Args:
        instances: (H, W), see `colour_instances`.
        classes: m of `object_label_names`.

    Returns:
        (H, W) uint8.

    Raises:
        InputError: values beyond 255.
    """
    colours = colour_instances(instances).astype(int)
    object_label_names(classes, max(1, int(colours.max(initial=0))))
    return np.where(colours > 0, colours + classes, 0).astype(np.uint8)


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
class _NpzFile:
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
    progress: Callable[[list[_NpzFile]], Iterable[_NpzFile]] = iter,
) -> PromptConversion:
    """Writes one raw nnU-Net data set of pictures with objects; it appears complete or not at all.

    Every case becomes an RGB PNG `<set>__<case>`, grey repeated; volumes are sliced along their first axis as
    `<set>__<case>_z012`. Pictures and slices without objects are left out. 8-bit intensities stay as they are, others
    are clipped to the 0.5th and 99.5th percentile of the image or volume (`nnsam.io.image.to_eight_bit`).

    Labels have one numbering for all sets. Where a case has `inst`, its instances become instance_1..k, coloured such
    that no two of one colour touch; elsewhere the classes of `gts` stay and are called object_1..m, with m the
    highest class over all cases without `inst`.

    splits_final.json holds folds that never part a patient (`nnsam.datasets.patients.patient_ids`), or, if `splits`
    names val beside train, the one fold that validates on the patients of val. With one patient only, it is not
    written.

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
    pictures: dict[str, _NpzFile] = {}
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


def _find_files(folders: Sequence[str | Path], splits: Sequence[str]) -> list[_NpzFile]:
    files: list[_NpzFile] = []
    for folder in map(Path, folders):
        set_name = folder.absolute().name
        if set_name.endswith("_PREDICTED"):
            raise InputError(f"The labels of {folder} are predictions of a model, not annotations; leave it out.")
        present = [split for split in splits if (folder / split).is_dir()] if folder.is_dir() else splits
        files += [_NpzFile(set_name, split, path) for split, path in find_npz_files(folder, present or splits)]
    seen: dict[tuple[str, str], Path] = {}
    for file in files:
        key = (file.part, file.identifier.casefold())
        if key in seen:
            raise InputError(
                f"{seen[key]} and {file.path} would both be called {file.identifier}; rename one or leave it out."
            )
        seen[key] = file.path
    return files


def _patients(files: list[_NpzFile], pattern: str | None) -> dict[tuple[str, str], str]:
    cases: dict[str, list[str]] = {}
    for file in files:
        if file.part == "Tr":
            cases.setdefault(file.set_name, []).append(file.path.stem)
    return patient_ids(cases, pattern)


def _read(source: _NpzFile) -> NpzCase:
    try:
        return read_npz_case(source.path, with_instances=True)
    except InputError as error:
        if "lacks the key gts" in str(error):
            raise InputError(f"{source.path} has no masks (key gts); leave {source.set_name} out.") from error
        raise


def _highest_class(files: list[_NpzFile]) -> int:
    """The highest class over the cases without instances; reads all cases, so that bad ones are found first."""
    cases = (_read(source) for source in files)
    return max((int(case.labels.max()) for case in cases if case.instances is None), default=0)


def _pictures(source: _NpzFile, classes: int) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """(identifier, (H, W, 3), (H, W)) of a case's picture, or of each slice; only those with objects."""
    case = _read(source)
    objects = case.labels if case.instances is None else case.instances
    image = to_eight_bit(case.image.pixels)
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
            yield source.identifier + suffix, to_rgb(picture, case.image.channels == 3), labels


def _write_folds(folder: Path, pictures: dict[str, _NpzFile], patients: dict[str, str]) -> int:
    """Writes splits_final.json where patients can be divided; returns the number of folds."""
    validation = {identifier for identifier, source in pictures.items() if source.split == "val"}
    folds = fixed_fold(patients, validation)
    if not validation or not folds[0]["train"]:
        folds = patient_folds(patients, {identifier: source.set_name for identifier, source in pictures.items()})
    if folds:
        write_json(folder / "splits_final.json", folds)
    return len(folds)
