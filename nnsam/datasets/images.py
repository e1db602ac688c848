"""Folders of images and of masks, matched by name, as raw nnU-Net data sets."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nnsam.datasets.patients import patient_folds, patient_ids
from nnsam.errors import InputError
from nnsam.io.finding import InputFile, find_images, find_labels, image_name, some, visible
from nnsam.io.image import Image, to_rgb
from nnsam.io.reading import read_labels
from nnsam.io.writing import write_image, write_labels
from nnsam.nnunet.raw_dataset import check_dataset_folder_name, write_dataset_json
from nnsam.support.files import atomic_folder, write_json

# What follows, or precedes, the name of an image in that of its mask.
MASK_WORDS = (
    *("mask", "masks", "seg", "segmentation", "label", "labels", "gt", "groundtruth", "ground_truth", "annotation"),
    *("manual1", "roi"),
)
# What may follow the name of a case in that of its image.
IMAGE_WORDS = ("0000", "image", "img", "training", "test")
# More values than this are no labels that somebody gave, but a picture or a mask with smoothed borders.
_MOST_VALUES = 32
_WHITE = 255


_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class ImageConversion:
    """What a conversion wrote.

    Attributes:
        cases: names, in order.
        labels: class name -> value, background included.
        file_ending: of images and labels.
        patients: number of them.
        folds: number of folds in splits_final.json; 0 where all cases are of one patient.
        notes: what the user has to know, a sentence each.
    """

    cases: tuple[str, ...]
    labels: dict[str, int]
    file_ending: str
    patients: int
    folds: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Pair:
    name: str
    image: InputFile
    mask: Path


@dataclass
class _Survey:
    """What all pairs together ask of the data set."""

    dimensions: set[int]
    is_colour: bool = False
    needs_nifti: bool = False
    values: dict[int, str] | None = None  # value -> the first mask that holds it


def convert_images(
    images: str | Path,
    masks: str | Path,
    destination: str | Path,
    *,
    name: str | None = None,
    label_names: Mapping[int, str] | None = None,
    mask_suffix: str | None = None,
    patient_pattern: str | None = None,
    skip_unmatched: bool = False,
    channel_name: str = "image",
    progress: Callable[[list], Iterable] = iter,
) -> ImageConversion:
    """Writes a raw nnU-Net data set; it appears complete or not at all.

    An image and a mask belong together if their names without endings are the same, apart from capital letters and from
    words such as `_mask`, `_seg`, `_gt` or `_Segmentation`. 8-bit pictures become PNG, all else NIfTI with its numeric
    type and spacing. Masks of 0 and 255 become 0 and 1; other values become 1, 2, ... in their order.

    Args:
        images: folder, see `nnsam.io.find_images`; with DICOM series in folders of their own.
        masks: folder of label maps; it may be that of the images.
        destination: DatasetXXX_Name, absent or empty.
        name: name in dataset.json; the folder's by default.
        label_names: value in the masks -> class name; by default label_<value>.
        mask_suffix: what follows the image's name in the mask's, instead of the known words.
        patient_pattern: regular expression that finds the patient in a case's name, see
            `nnsam.datasets.patients.patient_ids`.
        skip_unmatched: leave out images without mask and masks without image, instead of refusing.
        channel_name: of grey images; nnU-Net normalises "CT" by Hounsfield units, others by z-score.
        progress: wraps the list of pairs, twice, for a progress bar.

    Raises:
        InputError: nothing to convert, images or masks without partner, sizes or places that differ, masks that hold no
            labels, values without name, volumes without pixel size, or a destination that cannot be used.
    """
    folder_name = check_dataset_folder_name(destination)
    pairs, notes = _pairs(Path(images), Path(masks), mask_suffix, skip_unmatched)
    survey = _survey(progress(pairs))
    values, labels, told = _labels(survey.values or {}, label_names)
    notes += told
    ending = ".nii.gz" if survey.needs_nifti else ".png"
    patients = {
        case: patient
        for (_, case), patient in patient_ids({"": [pair.name for pair in pairs]}, patient_pattern).items()
    }
    folds = patient_folds(patients, dict.fromkeys(patients, ""))
    with atomic_folder(destination) as draft:
        for pair in progress(pairs):
            _write_case(draft, pair, survey, values, ending)
        write_dataset_json(
            draft,
            name=name or folder_name,
            channel_names=("R", "G", "B") if survey.is_colour else (channel_name,),
            labels=labels,
            num_training=len(pairs),
            file_ending=ending,
        )
        if folds:
            write_json(draft / "splits_final.json", folds, indent=2)
    return ImageConversion(
        tuple(pair.name for pair in pairs), labels, ending, len(set(patients.values())), len(folds), tuple(notes)
    )


# ---- names


def _pairs(images: Path, masks: Path, suffix: str | None, skip: bool) -> tuple[list[_Pair], list[str]]:
    if not images.is_dir():
        raise InputError(f"{images} is no folder; expected one of images.")
    if not masks.is_dir():
        raise InputError(f"{masks} is no folder; expected one of masks.")
    is_shared = images.resolve() == masks.resolve()
    found_images = find_images(images)
    found_masks = _find_masks(masks)
    if is_shared:
        is_mask = {case: _mask_key(case, suffix, 1) != case.lower() for case in found_masks}
        found_masks = {case: path for case, path in found_masks.items() if is_mask[case]}
        found_images = [file for file in found_images if not is_mask.get(file.stem, False)]
    matched: list[tuple[InputFile, Path]] = []
    for strictness in range(3):  # the same names first, then without words of masks, then without those of images, too
        by_key = _grouped((_image_key(file.case, strictness), file) for file in found_images)
        masks_by_key = _grouped((_mask_key(item[0], suffix, strictness), item) for item in found_masks.items())
        for key in by_key.keys() & masks_by_key.keys():
            files, candidates = by_key[key], masks_by_key[key]
            if len(files) > 1 or len(candidates) > 1:
                what, names = ("images", files[:2]) if len(files) > 1 else ("masks", candidates[:2])
                paths = [entry.path if isinstance(entry, InputFile) else entry[1] for entry in names]
                raise InputError(
                    f"{paths[0]} and {paths[1].name} are both {what} of one case by their names; keep one of them, or "
                    "join them into one file."
                )
            matched.append((files[0], candidates[0][1]))
            found_images = [file for file in found_images if file is not files[0]]
            del found_masks[candidates[0][0]]
    without_mask = [file.path.name for file in found_images]
    without_image = [path.name for path in found_masks.values()]
    if not matched or (not skip and (without_mask or without_image)):
        raise InputError(_unmatched(images, masks, without_mask, without_image, len(matched)))
    notes = []
    for left_out, folder, partner in ((without_mask, images, "mask"), (without_image, masks, "image")):
        if left_out:
            notes.append(f"{len(left_out)} files of {folder} have no {partner} and are left out: {some(left_out)}.")
    pairs = [_Pair(_case_name(file.case), file, mask) for file, mask in matched]
    return sorted(pairs, key=lambda pair: pair.name), notes


def _grouped(entries: Iterable[tuple[str, _Entry]]) -> dict[str, list[_Entry]]:
    groups: dict[str, list[_Entry]] = defaultdict(list)
    for key, entry in entries:
        groups[key].append(entry)
    return groups


def _find_masks(folder: Path) -> dict[str, Path]:
    lossy = [path.name for path in visible(folder) if path.suffix.lower() in (".jpg", ".jpeg")]
    try:
        return find_labels(folder)
    except InputError as error:
        if not lossy:
            raise
        raise InputError(
            f"{folder} holds masks as JPEG ({some(lossy)}), which alters values at borders; save them as PNG."
        ) from error


def _unmatched(images: Path, masks: Path, without_mask: list[str], without_image: list[str], common: int) -> str:
    parts = []
    if without_mask:
        parts.append(f"{len(without_mask)} images of {images} have no mask ({some(without_mask)})")
    if without_image:
        parts.append(f"{len(without_image)} masks of {masks} have no image ({some(without_image)})")
    advice = "name them alike, give --mask-suffix" + (", or leave them out with --skip-unmatched" if common else "")
    return f"{' and '.join(parts)}, {common} match; {advice}."


def _case_name(case: str) -> str:
    """What nnU-Net's files can be called: no separators of paths, no blanks at the ends."""
    return re.sub(r"[\\/:*?\"<>|]+", "_", case).strip() or "case"


def _image_key(case: str, strictness: int) -> str:
    return _without(case.lower(), IMAGE_WORDS) if strictness == 2 else case.lower()


def _mask_key(case: str, suffix: str | None, strictness: int) -> str:
    key = case.lower()
    if strictness:
        key = key.removesuffix(suffix.lower()) if suffix is not None else _without(key, MASK_WORDS)
    return _image_key(key, strictness)


def _without(name: str, words: Sequence[str]) -> str:
    """A name without one of the words at its end or beginning, and what joins them."""
    for word in sorted(words, key=len, reverse=True):
        for pattern in (rf"(.+?)[ _.-]+{word}", rf"{word}[ _.-]+(.+)"):
            match = re.fullmatch(pattern, name)
            if match:
                return match[1]
    return name


# ---- contents


def _survey(pairs: Iterable[_Pair]) -> _Survey:
    """Reads every pair once, so that one file format and one list of labels hold for all."""
    survey, problems = _Survey(set()), []
    values: dict[int, str] = {}
    places: dict[int, str] = {}
    for pair in pairs:
        image, mask = pair.image.read(), read_labels(pair.mask)
        problem = _problem(pair, image, mask)
        if problem:
            problems.append(problem)
            continue
        places.setdefault(image.dimensions, str(pair.image.path))
        survey.is_colour |= image.channels == 3
        survey.needs_nifti |= image.dimensions == 3 or image.spacing is not None or image.pixels.dtype != np.uint8
        for value in np.unique(mask.pixels).tolist():
            values.setdefault(int(value), str(pair.mask))
        if len(values) > _MOST_VALUES:
            raise InputError(
                f"{pair.mask} and the masks before it hold more than {_MOST_VALUES} values "
                f"({some(map(str, values), 6)}); are they pictures, or masks with smoothed borders? Save label values."
            )
    if problems:
        more = f" {len(problems) - 1} more pairs have such problems." if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
    if len(places) > 1:
        raise InputError(
            f"A data set is either of pictures or of volumes, but {places[2]} is a picture and {places[3]} a volume."
        )
    if survey.is_colour and survey.needs_nifti and 3 in places:
        raise InputError(f"{places[3]} is a volume in colour, which nnU-Net does not train on; save one channel.")
    survey.dimensions, survey.values = set(places), values
    return survey


def _problem(pair: _Pair, image: Image, mask: Image) -> str:
    if image.shape != mask.shape:
        return (
            f"{pair.image.path} has the shape {image.shape} and its mask {pair.mask.name} {mask.shape}; they must "
            "cover the same pixels."
        )
    if image.dimensions == 3 and image.spacing is None:
        return f"{pair.image.path} is a volume without pixel size, by which nnU-Net plans; save it as NIfTI with one."
    ours, theirs = image.geometry, mask.geometry
    if ours is None or theirs is None or ours.dimensions != theirs.dimensions:
        return ""
    for what in ours.differences(theirs):
        return (
            f"{pair.image.path} and its mask {pair.mask.name} differ in {what}, {getattr(ours, what)} and "
            f"{getattr(theirs, what)}; is it of another image?"
        )
    return ""


def _labels(
    found: Mapping[int, str], names: Mapping[int, str] | None
) -> tuple[dict[int, int], dict[str, int], list[str]]:
    """Value in the masks -> label; class name -> label; and what is to be told."""
    values = sorted(value for value in found if value)
    if not values:
        raise InputError("All masks are empty; expected some label besides the background, 0.")
    notes = []
    if values == [_WHITE] and (names is None or _WHITE not in names):
        notes.append("The masks hold 0 and 255, written as 0 and 1.")
        names = {_WHITE: next(iter(names.values())) if names else "object"}
    if names is None:
        names = {value: f"label_{value}" for value in values}
    undeclared = [value for value in values if value not in names]
    if undeclared:
        raise InputError(
            f"The masks hold the value {undeclared[0]} (first in {found[undeclared[0]]}), which --labels does not name."
        )
    order = sorted(names)
    if len(set(names.values()) | {"background", "ignore"}) != len(names) + 2:
        raise InputError("Names in --labels must differ from each other, from background and from ignore.")
    if order != list(range(1, len(order) + 1)) and order != [_WHITE]:
        changed = ", ".join(f"{value} is {label}" for label, value in enumerate(order, 1))
        notes.append(f"nnU-Net needs labels 1, 2, 3, ... without gaps: {changed}.")
    return (
        {value: label for label, value in enumerate(order, 1)},
        {"background": 0, **{names[value]: label for label, value in enumerate(order, 1)}},
        notes,
    )


def _write_case(folder: Path, pair: _Pair, survey: _Survey, values: Mapping[int, int], ending: str) -> None:
    image, mask = pair.image.read(), read_labels(pair.mask)
    labels = np.zeros(mask.shape, np.uint8)
    for value, label in values.items():
        labels[mask.pixels == value] = label
    write_labels(folder / "labelsTr" / f"{pair.name}{ending}", image.with_pixels(labels))
    images = folder / "imagesTr"
    if not survey.is_colour:
        write_image(images / image_name(pair.name, ending), image)
        return
    colours: NDArray = image.pixels
    if image.channels == 1:
        colours = to_rgb(colours, is_colour=False)
    if ending == ".png":
        write_image(images / image_name(pair.name, ending), image.with_pixels(colours))
        return
    for channel in range(3):
        write_image(images / image_name(pair.name, ending, channel), image.with_pixels(colours[..., channel]))
