"""Shapes with known distance and curvature, and a check that others use; `test_shapes.py` shows that it can fail."""

import numpy as np


def grid(size=96):
    y, x = np.mgrid[:size, :size].astype(np.float64)
    return y, x


def disk(radius, size=96, centre=None):
    """Exact signed distance of a disk, negative inside."""
    y, x = grid(size)
    centre_y, centre_x = centre or ((size - 1) / 2, (size - 1) / 2)
    return np.hypot(y - centre_y, x - centre_x) - radius


def half_plane(degrees, offset=0.0, size=96):
    """Exact signed distance of a half-plane whose normal has the given angle to the x axis."""
    y, x = grid(size)
    angle = np.deg2rad(degrees)
    return (y - (size - 1) / 2) * np.sin(angle) + (x - (size - 1) / 2) * np.cos(angle) - offset


def blobs(size=48, seed=0):
    """A mask without symmetry: noise of a few scales, touching the border."""
    random = np.random.default_rng(seed)
    y, x = grid(size)
    field = sum(
        random.normal() * np.sin(2 * np.pi * (a * y + b * x) / size + random.uniform(0, 6))
        for a, b in ((1, 0), (0, 1), (1, 2), (2, 1), (3, 1), (1, 3))
    )
    return field > 0


TURNS = {
    "flip rows": lambda a: a[..., ::-1, :],
    "flip columns": lambda a: a[..., ::-1],
    "transpose": lambda a: np.swapaxes(a, -1, -2),
    "quarter turn": lambda a: np.rot90(a, 1, (-2, -1)),
    "three quarter turns": lambda a: np.rot90(a, 3, (-2, -1)),
}


def assert_turns_along(function, array, tolerance):
    """Flipping or turning the input flips or turns the output."""
    expected = function(array)
    for name, turn in TURNS.items():
        found = function(np.ascontiguousarray(turn(array)))
        np.testing.assert_allclose(found, turn(expected), rtol=0, atol=tolerance, err_msg=name)
