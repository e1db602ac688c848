"""MM-WHS as a raw nnU-Net data set: the official volumes, in slices or whole, or CFDnet's slices of them.

Official layout (http://www.sdspeople.fudan.edu.cn/zhuangxiahai/0/mmwhs/): `ct_train/ct_train_1001_image.nii.gz` with
`ct_train_1001_label.nii.gz`, the same for `mr_train`, 20 patients each, and test images without labels. CT and MR are
of different patients. The paper of nnSAM used slices that the authors of CFDnet had cut: see
`nnsam.datasets.mmwhs.cfdnet`.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnsam.datasets.mmwhs import cfdnet
from nnsam.datasets.mmwhs.files import Pair, SourceFile, class_labels, open_source, pair_files
from nnsam.datasets.mmwhs.slices import PLANES, SliceRule, orient, read_pair, take_slices
from nnsam.datasets.mmwhs.writer import MMWHSConversion, Writer
from nnsam.errors import InputError
from nnsam.nnunet.raw_dataset import check_dataset_folder_name
from nnsam.support.files import atomic_folder

MODALITIES = ("ct", "mr", "both")
_OFFICIAL = re.compile(
    r"(?P<modality>ct|mr)_(?P<part>train|test)_(?P<number>\d+)_(?P<kind>image|label)\.nii(?:\.gz)?", re.IGNORECASE
)


@dataclass(frozen=True)
class Choices:
    """What to convert, and how.

    Attributes:
        modality: "ct", "mr" or "both".
        classes: "paper" (LV, RV, LA, RA, Myo) or "all" (also AA and PA).
        rule: how volumes become slices; None keeps them whole.
        test: converts the test images too.
        trust_image: label arrays are taken as they are, whatever their header's geometry says.
    """

    modality: str = "ct"
    classes: str = "paper"
    rule: SliceRule | None = field(default_factory=SliceRule)
    test: bool = False
    trust_image: bool = False


def convert_mmwhs(
    source: str | Path,
    destination: str | Path,
    choices: Choices | None = None,
    *,
    name: str | None = None,
    progress: Callable[[list[Pair]], Iterable[Pair]] = iter,
) -> MMWHSConversion:
    """Writes a raw nnU-Net data set with patients.json (case -> patient); it appears complete or not at all.

    One volume is in memory at a time. Cases are called ct_1001_z045: modality, patient, slice along the oriented
    volume's axis (z from the feet to the head, y from front to back, x from the right to the left), or ct_1001 where
    volumes stay whole. Files that are none of MM-WHS's are left out, with a note. nnU-Net normalises CT by Hounsfield
    units, and everything else by z-score.

    Args:
        source: folder (searched four levels deep) or zip archive, of the official files or of CFDnet's.
        destination: DatasetXXX_Name, absent or empty.
        choices: what to convert; by default the paper's classes of the CT images, 16 axial slices of each volume.
        name: name in dataset.json; the folder's by default.
        progress: wraps the list of pairs, for a progress bar.

    Raises:
        InputError: nothing to convert, a file that is missing or unreadable, values or geometry that are not MM-WHS's,
            a volume without a slice that qualifies, or a destination that cannot be used.
    """
    choices = choices or Choices()
    folder_name = check_dataset_folder_name(destination)
    if choices.modality not in MODALITIES:
        raise InputError(f"The modality {choices.modality!r} is unknown; expected {', '.join(MODALITIES)}.")
    class_labels(choices.classes)
    with open_source(Path(source)) as files, atomic_folder(destination) as draft:
        writer = Writer(draft, choices.classes)
        official, slices = (_matching(files, pattern) for pattern in (_OFFICIAL, cfdnet.FILE_NAME))
        if official and slices:
            raise InputError(
                f"{source} holds both MM-WHS's volumes ({official[0].name}) and CFDnet's slices ({slices[0].name}); "
                "give the folder of one of them."
            )
        if slices:
            if choices.rule != SliceRule():
                raise InputError(
                    f"{source} holds CFDnet's slices, which stay as they are; leave the options for slices and "
                    "--volumes out."
                )
            pairs = cfdnet.find_pairs(slices, choices.modality, str(source), writer)
            for pair in progress(pairs):
                cfdnet.write_slice(pair, writer, choices.trust_image)
        else:
            pairs = _official_pairs(official, choices, str(source))
            for pair in progress(pairs):
                _write_volume(pair, choices, writer)
        used = {file.place for file in (*official, *slices)}
        writer.note_ignored([file.place for file in files if file.place not in used])
        rule = cfdnet.DESCRIPTION if slices else str(choices.rule or "whole volumes")
        return writer.finish(name or folder_name, rule)


def _matching(files: list[SourceFile], pattern: re.Pattern[str]) -> list[SourceFile]:
    return [file for file in files if pattern.fullmatch(file.name)]


def _official_pairs(files: list[SourceFile], choices: Choices, source: str) -> list[Pair]:
    if not files:
        raise InputError(
            f"{source} holds no file of MM-WHS; expected names like ct_train_1001_image.nii.gz, or img33_slice1.nii.gz "
            "for CFDnet's slices."
        )
    pairs = pair_files(files, _OFFICIAL)
    chosen = [pair for pair in pairs if choices.modality in ("both", pair.key[0])]
    training = [pair for pair in chosen if pair.key[1] == "train"]
    wanted = chosen if choices.test else training
    if not wanted:
        found = sorted({f"{modality} {part}" for modality, part, _ in (pair.key for pair in pairs)})
        raise InputError(
            f"{source} holds no {choices.modality} training files, only {' and '.join(found)}; choose with --modality "
            "and --test."
        )
    for pair in training:
        if pair.label is None:
            raise InputError(f"{pair.image.place} has no label file beside it; add it or remove the image.")
    for pair in wanted:
        if pair.label is None and choices.rule is not None:
            raise InputError(
                f"{pair.image.place} has no labels, by which its slices would be chosen; leave --test out, or keep "
                "whole volumes with --volumes."
            )
    both = {pair.key[::2] for pair in training} & {pair.key[::2] for pair in wanted if pair.key[1] == "test"}
    if both:
        raise InputError(f"{source} holds patient {min(both)[1]} among the training and the test files; keep one.")
    return wanted


def _write_volume(pair: Pair, choices: Choices, writer: Writer) -> None:
    modality, part, number = pair.key
    patient, test = f"{modality}_{number}", part == "test"
    image, label = read_pair(pair, trust_image=choices.trust_image)
    place = pair.image.place if pair.label is None else pair.label.place
    if image.dimensions != 3 or image.pixels.ndim != 3:
        raise InputError(f"{pair.image.place} is not a grey volume of several slices; found {image.pixels.shape}.")
    labels = None if label is None else writer.labels(label.pixels, place)
    if labels is not None and not labels.any():
        raise InputError(f"{place} holds none of the classes; remove the file and its image, or mend it.")
    if choices.rule is None:
        writer.add_volume(patient, patient, image, labels, test=test)
        return
    assert label is not None
    assert labels is not None
    orientation, _, letter = PLANES[choices.rule.plane]
    volume = orient(image, orientation, pair.image.place)
    maps = orient(label, orientation, place, labels).array
    count = writer.class_count
    taken = 0
    for item in take_slices(volume.array, maps, volume.spacing_xyz, choices.rule, count):
        writer.add_slice(f"{patient}_{letter}{item.index:03d}", patient, item, test=test)
        taken += 1
    if not taken:
        held = len(np.unique(labels)) - 1
        raise InputError(
            f"{place}: no {choices.rule.plane} slice holds {choices.rule.min_classes} of the {count} classes (the "
            f"volume holds {held}); lower --min-classes, choose another --plane, or remove the volume."
        )
    if taken < choices.rule.per_volume:
        writer.note(f"{place} has only {taken} slices that qualify; all were taken.")
