"""Anatomy and image formation of the synthetic heart in `phantom.py`: outlines, tissues, scanner.

Coordinates: y and x run from -1 to 1 along the image's shorter side; all arrays are (H, W).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
