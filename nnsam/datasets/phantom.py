"""Synthetic cardiac slices with five structures, for demonstrations and tests without any patient's data.

The view is the four-chamber one: two atria above, two ventricles below, the myocardium around the left ventricle. The
structures carry the names of the five that nnSAM's paper segments in cardiac CT.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnsam.errors import InputError
from nnsam.io.finding import image_name
from nnsam.io.writing import write_png
from nnsam.nnunet.raw_dataset import LabelNames, check_dataset_folder_name, write_dataset_json
from nnsam.support.files import atomic_folder

STRUCTURES = {"LV": 1, "RV": 2, "LA": 3, "RA": 4, "Myo": 5}

# Mean intensity (0..1) per tissue. Left and right blood pool differ (the contrast agent's passage), while the two
# ventricles' neighbours share their intensity: LV = LA = aorta and RV = RA in the mean, Myo = liver = chest wall.
TISSUES = {
    "ct": {"lung": 0.06, "fat": 0.20, "muscle": 0.42, "left": 0.76, "right": 0.60, "bone": 0.85},
    "mr": {"lung": 0.05, "fat": 0.66, "muscle": 0.28, "left": 0.72, "right": 0.68, "bone": 0.20},
}

# Ellipses in the heart's own frame (x, y, semi-axis x, semi-axis y); y grows downwards, towards the apex.
_LV = (0.22, 0.15, 0.20, 0.38)
_EPICARDIUM = (0.22, 0.15, 0.32, 0.50)
_RV = (-0.20, 0.08, 0.31, 0.38)
_LA = (0.22, -0.40, 0.23, 0.22)
_RA = (-0.24, -0.40, 0.25, 0.22)
_VALVE_PLANE = -0.17

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Frame:
    """One slice's random geometry: heart coordinates of every pixel, and the structures' individual sizes."""

    x: Array
    y: Array
    rng: np.random.Generator

    def ellipse(self, shape: tuple[float, float, float, float], spread: float, *, bullet: bool = False) -> Array:
        """Radius relative to a randomly scaled, wavy ellipse: below 1 inside; (H, W).

        A bullet is stretched above its centre, so that the valve plane cuts through walls that are nearly upright.
        """
        centre_x, centre_y, semi_x, semi_y = shape
        scale = 1 + self.rng.uniform(-spread, spread)
        u, v = (self.x - centre_x) / (semi_x * scale), (self.y - centre_y) / (semi_y * scale)
        if bullet:
            v = np.where(v < 0, 0.5 * v, v)
        angle = np.arctan2(v, u)
        # Waves 2 to 4 only: wave 1 would be a shift, higher ones would look serrated.
        waves = [self.rng.uniform(-0.05, 0.05) * np.cos(k * angle + self.rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)]
        return np.hypot(u, v) / (1 + sum(waves))


def body_coordinates(size: tuple[int, ...]) -> tuple[Array, Array]:
    """Coordinates y and x of the pixel centres, -1..1 along the shorter side, 0 in the middle; (H, W) each."""
    height, width = size
    half = min(height, width) / 2
    y, x = np.mgrid[0:height, 0:width]
    return (y + 0.5 - height / 2) / half, (x + 0.5 - width / 2) / half


def _smooth_field(y: Array, x: Array, amplitude: float, rng: np.random.Generator) -> Array:
    """Sum of four plane waves of less than one period per half image, within +-`amplitude`."""
    field = np.zeros_like(x)
    for _ in range(4):
        wave_y, wave_x = rng.uniform(-2.5, 2.5, 2)
        field += np.sin(wave_y * y + wave_x * x + rng.uniform(0, 2 * np.pi))
    return amplitude / 4 * field


def random_frame(body_y: Array, body_x: Array, rng: np.random.Generator) -> _Frame:
    """Maps image coordinates to the heart's frame; the warp is small enough to be one-to-one."""
    angle = np.deg2rad(rng.uniform(-35, 35))
    scale, shear = rng.uniform(0.85, 1.10), rng.uniform(-0.15, 0.15)
    y = body_y - rng.uniform(-0.10, 0.10) + _smooth_field(body_y, body_x, 0.08, rng)
    x = body_x - rng.uniform(-0.10, 0.10) + _smooth_field(body_y, body_x, 0.08, rng)
    heart_x = (np.cos(angle) * x + np.sin(angle) * y) / scale
    heart_y = (-np.sin(angle) * x + np.cos(angle) * y) / scale
    return _Frame(heart_x + shear * heart_y, heart_y, rng)


def paint_labels(frame: _Frame) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Label map, and the larger area of heart and pericardial fat; (H, W) each."""
    left, epicardium = frame.ellipse(_LV, 0.15, bullet=True), frame.ellipse(_EPICARDIUM, 0.05, bullet=True)
    right, left_atrium, right_atrium = frame.ellipse(_RV, 0.1), frame.ellipse(_LA, 0.15), frame.ellipse(_RA, 0.15)
    below = frame.y > _VALVE_PLANE + 0.02 * np.sin(5 * frame.x + frame.rng.uniform(0, 2 * np.pi))
    labels = np.zeros(frame.x.shape, np.uint8)
    # Painted from the back to the front: the left ventricle with its wall pushes the right one into a crescent.
    labels[(right_atrium < 1) & ~below] = STRUCTURES["RA"]
    labels[(left_atrium < 1) & ~below] = STRUCTURES["LA"]
    labels[(right < 1) & below] = STRUCTURES["RV"]
    labels[(epicardium < 1) & below] = STRUCTURES["Myo"]
    # The wall keeps at least a sixth of the radius, however the two outlines vary: Myo is a closed horseshoe.
    labels[(left < 1) & (epicardium < 0.84) & below] = STRUCTURES["LV"]
    pericardium = np.minimum.reduce([np.where(below, epicardium, 9), right, left_atrium, right_atrium]) < 1.18
    return labels, pericardium


def paint_tissue(
    labels: NDArray[np.uint8],
    pericardium: NDArray[np.bool_],
    body_y: Array,
    body_x: Array,
    tissues: dict[str, float],
    rng: np.random.Generator,
) -> Array:
    """Intensity of every pixel without noise, 0..1; (H, W)."""

    def disk(y: float, x: float, radius: float) -> NDArray[np.bool_]:
        return np.hypot(body_y - y, body_x - x) < radius

    def vary(name: str, spread: float = 0.05) -> float:
        return tissues[name] + rng.uniform(-spread, spread)

    image = np.full(labels.shape, vary("lung", 0.03))
    image[np.hypot(body_x, 0.9 * body_y) > 0.88] = vary("muscle")  # chest wall
    image[body_y > 0.62 + 0.1 * np.sin(3 * body_x + rng.uniform(0, 2 * np.pi))] = vary("muscle")  # liver
    image[disk(-0.82, 0.05, 0.12)] = vary("bone")  # spine
    image[pericardium] = vary("fat")
    blood = {"left": vary("left"), "right": vary("right")}
    aorta = disk(rng.uniform(-0.70, -0.60), rng.uniform(0.35, 0.45), rng.uniform(0.07, 0.10))
    image[aorta & (labels == 0)] = blood["left"]
    sides = {"LV": "left", "LA": "left", "RV": "right", "RA": "right"}
    for name, side in sides.items():
        image[labels == STRUCTURES[name]] = blood[side] + rng.uniform(-0.02, 0.02)
    image[labels == STRUCTURES["Myo"]] = vary("muscle")
    _add_papillary_muscles(image, labels, disk, tissues["muscle"], rng)
    return image


def _add_papillary_muscles(
    image: Array,
    labels: NDArray[np.uint8],
    disk: Callable[[float, float, float], NDArray[np.bool_]],
    intensity: float,
    rng: np.random.Generator,
) -> None:
    """Two dark spots in the left ventricle's blood, which annotators count as ventricle."""
    y, x = body_coordinates(labels.shape)
    ventricle = labels == STRUCTURES["LV"]
    inside = np.flatnonzero(ventricle)
    for index in inside[rng.integers(0, len(inside), 2)]:
        spot = disk(float(y.flat[index]), float(x.flat[index]), rng.uniform(0.03, 0.05))
        image[spot & ventricle] = intensity


def acquire(tissue: Array, noise: float, rng: np.random.Generator) -> Array:
    """What a scanner adds: texture, partial volume, bias field, noise; clipped to 0..1."""
    y, x = body_coordinates(tissue.shape)
    texture = ndimage.gaussian_filter(rng.standard_normal(tissue.shape), 1.5)
    blurred = ndimage.gaussian_filter(tissue + noise * texture, 0.7)
    bias = 1 + _smooth_field(y, x, 0.25, rng)
    return np.clip(blurred * bias + noise * rng.standard_normal(tissue.shape), 0, 1)


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
            description="Synthetic four-chamber heart slices, made by nnsam.datasets.phantom.",
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
