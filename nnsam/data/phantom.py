"""Synthetic cardiac slices with five structures, for demonstrations and tests without any patient's data.

The view is the four-chamber one: two atria above, two ventricles below, the myocardium around the left ventricle. The
structures carry the names of the five that nnSAM's paper segments in cardiac CT.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.data.atomic import atomic_folder
from nnsam.data.image_files import write_png
from nnsam.data.phantom_anatomy import (
    STRUCTURES,
    TISSUES,
    acquire,
    body_coordinates,
    paint_labels,
    paint_tissue,
    random_frame,
)
from nnsam.data.raw_dataset import LabelNames, check_dataset_folder_name, image_name, write_dataset_json
from nnsam.errors import InputError

IGNORE_VALUE = 6
# Regions overlap; written in this order each pixel gets its structure's value back: the heart as Myo, the right heart
# over it as RV, then the single chambers. Predictions of a region-based model thus hold the same values 0..5.
REGIONS: LabelNames = {"heart": [1, 2, 3, 4, 5], "right_heart": [2, 4], "LV": 1, "LA": 3, "RA": 4}
REGIONS_CLASS_ORDER = (5, 2, 1, 3, 4)


def make_phantom(
    seed: int,
    size: tuple[int, int] = (128, 128),
    *,
    modality: str = "ct",
    channels: int = 1,
    noise: float = 0.04,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Makes one synthetic cardiac slice and its label map.

    Shapes are wavy ellipses under a random rotation (up to 35 degrees), scaling, shear, shift and a smooth warp. The
    image cannot be segmented by a threshold: neighbouring structures share their intensity (LV, LA and aorta; RV and
    RA; myocardium, liver and chest wall), blood holds papillary muscles, and a multiplicative bias field, blur and
    noise are laid over it. The structures touch (LV lies in Myo and opens into LA) and never overlap.

    Args:
        seed: any non-negative integer; equal arguments give equal arrays on every platform (numpy's PCG64).
        size: (H, W) in pixels, each at least 32.
        modality: "ct" or "mr", which sets the tissues' intensities (fat is dark in CT, bright in MR).
        channels: 1, or 3 for a tinted RGB image.
        noise: standard deviation of the Gaussian noise, as a share of the full scale.

    Returns:
        Image of (H, W), or (H, W, 3) with three channels, in 0..255, and labels of (H, W): 0 background and the
        values of `STRUCTURES`, each of which is present, and from 64 x 64 pixels on in one piece.

    Raises:
        InputError: an argument is outside of the ranges above.

    Example:
        >>> image, labels = make_phantom(seed=0, size=(64, 64))
        >>> image.shape, labels.max()
        ((64, 64), np.uint8(5))
    """
    _check_arguments(seed, size, modality, channels)
    rng = np.random.Generator(np.random.PCG64(seed))
    body_y, body_x = body_coordinates(size)
    frame = random_frame(body_y, body_x, rng)
    labels, pericardium = paint_labels(frame)
    tissue = paint_tissue(labels, pericardium, body_y, body_x, TISSUES[modality], rng)
    image = acquire(tissue, noise, rng)
    if channels == 3:
        # Gains and gammas per channel, so that the three are correlated but not copies of each other.
        gammas, gains = rng.uniform(0.7, 1.4, 3), rng.uniform(0.75, 1.0, 3)
        image = image[..., None] ** gammas * gains
    return np.round(image * 255).astype(np.uint8), labels


def paint_ignore(labels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Returns a copy in which a border strip and three wavy strokes hold `IGNORE_VALUE`.

    It stands for annotations that are incomplete. Every structure stays present.

    Args:
        labels: (H, W), not changed.
        seed: any non-negative integer.
    """
    rng = np.random.Generator(np.random.PCG64([seed, IGNORE_VALUE]))
    y, x = body_coordinates(labels.shape)
    ignored = x > 0.85
    for offset in rng.uniform(-0.6, 0.6, 3):
        ignored |= np.abs(y - offset - 0.15 * np.sin(4 * x + rng.uniform(0, 2 * np.pi))) < 0.03
    return np.where(ignored, np.uint8(IGNORE_VALUE), labels)


def write_phantom_dataset(
    folder: str | Path,
    n_train: int = 4,
    n_test: int = 4,
    seed: int = 0,
    size: tuple[int, int] = (128, 128),
    *,
    modality: str = "ct",
    channels: int = 1,
    regions: bool = False,
    ignore: bool = False,
) -> Path:
    """Writes a raw nnU-Net data set of phantoms as PNG: imagesTr, labelsTr, imagesTs, labelsTs and dataset.json.

    The folder appears complete or not at all. Cases are called phantom_000, phantom_001, ... across both parts; no
    two cases, also of other values of `seed`, share their random numbers.

    Args:
        folder: DatasetXXX_Name; absent or empty.
        n_train: number of training cases, at least 1.
        n_test: number of test cases; together with the training cases at most 1000.
        seed: any non-negative integer.
        size: see `make_phantom`, as `modality` and `channels`; an RGB image is one file with three channels.
        modality: "ct" or "mr".
        channels: 1 or 3.
        regions: dataset.json names the overlapping regions of `REGIONS` in place of the five structures. The label
            files are the same.
        ignore: training labels hold "ignore" (`IGNORE_VALUE`) in places, see `paint_ignore`; test labels never do.

    Returns:
        The folder's absolute path.

    Raises:
        InputError: a bad argument, or the folder exists and is not empty.
    """
    name = check_dataset_folder_name(folder)
    if n_train < 1 or n_test < 0 or n_train + n_test > 1000:
        raise InputError(f"The phantom data set takes 1..1000 cases; found {n_train} for training, {n_test} for test.")
    _check_arguments(seed, size, modality, channels)
    with atomic_folder(folder) as draft:
        for index in range(n_train + n_test):
            part, case, case_seed = "Tr" if index < n_train else "Ts", f"phantom_{index:03d}", 1000 * seed + index
            image, labels = make_phantom(case_seed, size, modality=modality, channels=channels)
            if ignore and part == "Tr":
                labels = paint_ignore(labels, case_seed)
            write_png(draft / f"images{part}" / image_name(case, ".png"), image)
            write_png(draft / f"labels{part}" / f"{case}.png", labels)
        write_dataset_json(
            draft,
            name=name,
            channel_names=("R", "G", "B") if channels == 3 else (f"synthetic {modality.upper()}",),
            labels={
                "background": 0,
                **(REGIONS if regions else STRUCTURES),
                **({"ignore": IGNORE_VALUE} if ignore else {}),
            },
            num_training=n_train,
            file_ending=".png",
            regions_class_order=REGIONS_CLASS_ORDER if regions else None,
            description="Synthetic four-chamber heart slices, made by nnsam.data.phantom.",
        )
    return Path(folder).absolute()


def _check_arguments(seed: int, size: tuple[int, int], modality: str, channels: int) -> None:
    if seed < 0:
        raise InputError(f"The phantom's seed must be at least 0; found {seed}.")
    if len(size) != 2 or min(size) < 32:
        raise InputError(f"The phantom's size must be (height, width), each at least 32 pixels; found {tuple(size)}.")
    if modality not in TISSUES:
        raise InputError(f"The phantom's modality must be one of {', '.join(TISSUES)}; found {modality!r}.")
    if channels not in (1, 3):
        raise InputError(f"The phantom has 1 or 3 channels; found {channels}.")
