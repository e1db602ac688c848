"""The slices of MM-WHS that the authors of CFDnet cut, which the paper of nnSAM used.

Source: https://github.com/FupingWu90/CT_MR_2D_Dataset_DA (Wu and Zhuang, IEEE Transactions on Medical Imaging 2020).
Its archives CT_withGT.zip and MR_withGT.zip hold 20 cases of 16 slices, "from the long-axis view around the center of
left ventricular cavity". Known of the files, from CFDnet's own code and its users': pairs `img33_slice1.nii.gz` and
`lab33_slice1.nii.gz` in one folder, or in two (Images and Label), CT cases numbered 33 to 52, MR cases 1 to 20; arrays
of the shape (220, 240, 1), which CFDnet squeezes and reads as 220 rows and 240 columns; MM-WHS's label values. The
archives themselves were not at hand when this was written.

Which patient of MM-WHS a case number stands for is not told; a case is taken for one patient. The folders CT_woGT and
MR_woGT hold labels of an automatic method, "not to be used for testing or validation"; they are left out. The paper of
nnSAM counts 212 slices, not 320, and does not say which.
"""

import re
from collections import Counter

import numpy as np

from nnsam.datasets.mmwhs.files import Pair, SourceFile, pair_files
from nnsam.datasets.mmwhs.slices import Slice, read_pair
from nnsam.datasets.mmwhs.writer import Writer
from nnsam.errors import InputError
from nnsam.io.image import Image

FILE_NAME = re.compile(
    r"(?P<kind>img|lab)(?P<number>\d+)_slice_?(?P<slice>\d+)\.nii(?:\.gz)?",
    re.IGNORECASE,
)
DESCRIPTION = "CFDnet's slices as they are"
_CASES, _SLICES = 20, 16


def find_pairs(files: list[SourceFile], modality: str, source: str, writer: Writer) -> list[Pair]:
    """Pairs images and labels, with the modality in front of the key: (modality, case, slice).

    The modality is that of the nearest folder (or archive) whose name begins with CT or MR; where there is none, the
    one asked for.

    Args:
        files: whose names match `FILE_NAME`.
        modality: "ct", "mr" or "both".
        source: for messages.
        writer: takes notes.

    Raises:
        InputError: no slices of that modality, an unknown modality, or image without label or the reverse.
    """
    automatic = [file for file in files if any("wogt" in folder.lower() for folder in file.folders)]
    if automatic:
        writer.note(
            f"{len(automatic)} files in folders woGT were left out: their labels are an automatic method's, not a "
            "reader's."
        )
    groups: dict[str, list[SourceFile]] = {}
    for file in files:
        if file not in automatic:
            groups.setdefault(_modality(file, modality), []).append(file)
    wanted = [(kind, group) for kind, group in sorted(groups.items()) if modality in ("both", kind)]
    if not wanted:
        found = " and ".join(f"{kind} slices" for kind in groups) or "slices with automatic labels"
        raise InputError(f"{source} holds no {modality} slices with labels, only {found}; choose with --modality.")
    pairs = []
    for kind, group in wanted:
        for pair in pair_files(group, FILE_NAME):
            if pair.label is None:
                raise InputError(f"{pair.image.place} has no label file (lab...); add it or remove the image.")
            pairs.append(Pair((kind, *pair.key), pair.image, pair.label))
    counts = Counter(pair.key[:2] for pair in pairs)
    if len(counts) != _CASES * len(wanted) or set(counts.values()) != {_SLICES}:
        writer.note(
            f"Found {len(pairs)} slices of {len(counts)} cases; CFDnet's description says {_CASES} cases of {_SLICES} "
            "slices per modality."
        )
    return pairs


def _modality(file: SourceFile, asked: str) -> str:
    for folder in file.folders:
        start = re.match(r"(ct|mr)(?:[_\W]|$)(?!mr_2d|ct_2d)", folder.lower())  # the repository is called CT_MR_2D_...
        if start:
            return start[1]
    if asked == "both":
        raise InputError(
            f"{file.place} may be CT or MR: no folder above it says so; give --modality ct or --modality mr, or call "
            "its folder CT_withGT or MR_withGT."
        )
    return asked


def write_slice(pair: Pair, writer: Writer, trust_image: bool = False) -> None:
    """Reads, checks and writes one slice as the case ct33_slice01 of the patient ct33.

    Args:
        pair: with the key (modality, case, slice).
        writer: takes the case.
        trust_image: ignores the label's geometry.

    Raises:
        InputError: unreadable, image and label of different grids, several slices in a file, or unknown label values.
    """
    modality, number, index = pair.key
    assert pair.label is not None
    image, label = read_pair(pair, trust_image=trust_image)
    assert label is not None
    patient = f"{modality}{int(number):02d}"
    labels = writer.labels(label.pixels, pair.label.place).reshape(label.shape)
    rows_columns, spacing = _plane(image, pair.image.place)
    item = Slice(int(index), image.pixels.reshape(rows_columns), labels.reshape(rows_columns), spacing)
    writer.add_slice(f"{patient}_slice{int(index):02d}", patient, item)


def _plane(image: Image, place: str) -> tuple[tuple[int, int], tuple[float, float]]:
    """Shape of a slice, whichever axis of the file has the length 1, and its spacing (x, y)."""
    kept = [axis for axis in range(image.pixels.ndim) if image.pixels.ndim == 2 or image.pixels.shape[axis] > 1]
    if len(kept) != 2 or image.spacing is None:
        raise InputError(f"{place} is no single slice: its array has the shape {np.shape(image.pixels)}.")
    rows, columns = kept
    return (image.pixels.shape[rows], image.pixels.shape[columns]), (image.spacing[columns], image.spacing[rows])
