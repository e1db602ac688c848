"""Folders of npz cases, `<set>/{train,val,test}/*.npz`, as raw nnU-Net data sets."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnsam.errors import InputError
from nnsam.io.finding import image_name, visible
from nnsam.io.formats import NPZ_ENDING
from nnsam.io.npz import NpzCase, read_npz_case
from nnsam.io.writing import write_image, write_labels
from nnsam.nnunet.raw_dataset import check_dataset_folder_name, write_dataset_json
from nnsam.support.files import atomic_folder, write_json

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class NpzConversion:
    """What a conversion wrote.

    Attributes:
        cases: split -> number of cases.
        labels: class name -> value, background included.
        file_ending: of images and labels.
    """

    cases: dict[str, int]
    labels: dict[str, int]
    file_ending: str


@dataclass(frozen=True)
class _Survey:
    """What all cases together ask of the data set."""

    file_ending: str
    channels: int
    values: frozenset[int]


def convert_npz_dataset(
    source: str | Path,
    destination: str | Path,
    *,
    name: str | None = None,
    splits: Sequence[str] | None = None,
    label_names: Mapping[int, str] | None = None,
    channel_name: str = "image",
    progress: Callable[[list[tuple[str, Path]]], Iterable[tuple[str, Path]]] = iter,
) -> NpzConversion:
    """Writes a raw nnU-Net data set; it appears complete or not at all.

    8-bit pictures without spacing become PNG (colour: one RGB file). All else becomes NIfTI with its own numeric type
    and spacing, colours as one file per channel. `train` goes to imagesTr and labelsTr, `test` to imagesTs and
    labelsTs. `val` joins imagesTr, and splits_final.json keeps it apart as the one fold's validation set; nnU-Net
    takes that file over when it plans.

    Args:
        source: folder with the subfolders train, val, test (any of them), which hold the npz files.
        destination: DatasetXXX_Name, absent or empty.
        name: name in dataset.json; the folder's by default.
        splits: subfolders to convert; by default those that exist.
        label_names: value -> class name, consecutive from 1; by default label_1, label_2, ... for the values found.
        channel_name: of grey images; nnU-Net normalises "CT" by Hounsfield units, others by z-score.
        progress: wraps the list of (split, file), for a progress bar.

    Raises:
        InputError: nothing to convert, bad cases, labels with gaps, or a destination that cannot be used.
    """
    folder_name = check_dataset_folder_name(destination)
    files = find_npz_files(Path(source), splits)
    survey = _survey(files)
    labels = _labels(survey.values, label_names)
    counts = {split: sum(1 for found, _ in files if found == split) for split in SPLITS}
    with atomic_folder(destination) as draft:
        for split, path in progress(files):
            _write_case(draft, "Ts" if split == "test" else "Tr", read_npz_case(path), survey)
        write_dataset_json(
            draft,
            name=name or folder_name,
            channel_names=("R", "G", "B") if survey.channels == 3 else (channel_name,),
            labels=labels,
            num_training=counts["train"] + counts["val"],
            file_ending=survey.file_ending,
        )
        if counts["val"]:
            fold = {split: [path.stem for found, path in files if found == split] for split in ("train", "val")}
            write_json(draft / "splits_final.json", [fold], indent=2)
    return NpzConversion({split: count for split, count in counts.items() if count}, labels, survey.file_ending)


def find_npz_files(source: Path, splits: Sequence[str] | None) -> list[tuple[str, Path]]:
    """(split, file) of every case in a set's folder, in order.

    Args:
        source: folder with the subfolders train, val, test (any of them).
        splits: subfolders to look into; by default those that exist.

    Raises:
        InputError: no such folders, no files, or a name in both train and val.
    """
    if not source.is_dir():
        raise InputError(f"{source} is not a folder.")
    unknown = sorted(set(splits or ()) - set(SPLITS))
    if unknown:
        raise InputError(f"Unknown split {', '.join(unknown)}; known: {', '.join(SPLITS)}.")
    missing = [split for split in splits or () if not (source / split).is_dir()]
    if missing:
        raise InputError(f"{source} has no folder {' and '.join(missing)}.")
    chosen = [split for split in SPLITS if (split in splits if splits else (source / split).is_dir())]
    files = [(split, path) for split in chosen for path in visible(source / split) if path.suffix == NPZ_ENDING]
    if not files:
        where = ", ".join(chosen) or "train, val or test, which must be subfolders"
        raise InputError(f"{source} holds no npz files in {where}.")
    training = [path.stem for split, path in files if split != "test"]
    twice = sorted({stem for stem in training if training.count(stem) > 1})
    if twice:
        raise InputError(
            f"{source}: train and val both hold {', '.join(twice[:3])}, but nnU-Net keeps them in one folder."
        )
    return files


def _survey(files: list[tuple[str, Path]]) -> _Survey:
    """Reads every case once, so that one file format and one list of labels hold for all."""
    values: set[int] = set()
    kinds: dict[tuple[int, int], Path] = {}
    needs_nifti = False
    for _, path in files:
        case = read_npz_case(path)
        if case.labels.ndim == 3 and case.image.spacing is None:
            raise InputError(f"{path} is a volume without the key spacing, whose slices nnU-Net cannot scale.")
        kinds.setdefault((case.labels.ndim, case.image.channels), path)
        values.update(np.unique(case.labels).tolist())
        needs_nifti |= case.image.pixels.dtype != np.uint8 or case.image.spacing is not None
    if len(kinds) > 1:
        (first, first_path), (second, second_path) = list(kinds.items())[:2]
        raise InputError(
            f"A data set is either 2D or 3D, and either grey or in colour, but {first_path} has {first[0]} dimensions "
            f"and {first[1]} channels, {second_path} {second[0]} and {second[1]}."
        )
    return _Survey(".nii.gz" if needs_nifti else ".png", next(iter(kinds))[1], frozenset(values))


def _labels(found: frozenset[int], names: Mapping[int, str] | None) -> dict[str, int]:
    values = sorted(found - {0})
    if names is None:
        if not values:
            raise InputError("No case holds any label besides the background; name the classes with --labels.")
        names = {value: f"label_{value}" for value in values}
    undeclared = sorted(set(values) - names.keys())
    if undeclared:
        raise InputError(f"The data hold the labels {undeclared}, which --labels does not name.")
    if sorted(names) != list(range(1, len(names) + 1)):
        raise InputError(
            f"nnU-Net needs labels 1, 2, 3, ... without gaps; found {sorted(names)}. Renumber them, or name the "
            "missing ones too with --labels."
        )
    if len(set(names.values()) | {"background", "ignore"}) != len(names) + 2:
        raise InputError("Names in --labels must differ from each other, from background and from ignore.")
    return {"background": 0, **{names[value]: value for value in sorted(names)}}


def _write_case(folder: Path, part: str, case: NpzCase, survey: _Survey) -> None:
    images, labels_file = folder / f"images{part}", folder / f"labels{part}" / f"{case.name}{survey.file_ending}"
    labels = case.labels.astype(np.uint8 if max(survey.values) < 256 else np.uint16)
    write_labels(labels_file, case.image.with_pixels(labels))
    if survey.channels == 1 or survey.file_ending == ".png":
        write_image(images / image_name(case.name, survey.file_ending), case.image)
        return
    for channel in range(survey.channels):
        image = case.image.with_pixels(case.image.pixels[..., channel])
        write_image(images / image_name(case.name, survey.file_ending, channel), image)
