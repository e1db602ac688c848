"""Label maps for training with box prompts: touching instances in different colours, one numbering for all cases.

A value has no meaning beyond telling objects apart, and an instance map holds up to hundreds of them. A few colours do:
no two instances of one colour touch, so that every connected component of a colour belongs to one instance.
"""

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

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
