"""The label values of MM-WHS, and the classes that become of them.

Values as the challenge states them (Zhuang et al., Medical Image Analysis 58, 2019, 101537; its successor's page
http://www.zmic.org.cn/care_2024/track5/ repeats them): 500 left ventricle blood cavity, 600 right ventricle blood
cavity, 420 left atrium blood cavity, 550 right atrium blood cavity, 205 myocardium of the left ventricle, 820 ascending
aorta, 850 pulmonary artery; 0 is the background.

One official file, mr_train_1010_label.nii.gz, also holds a few voxels of 421 within the left atrium. Users of the data
read them as 420, and so does this module; it says how many there were.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError

NAMES = {500: "LV", 600: "RV", 420: "LA", 550: "RA", 205: "Myo", 820: "AA", 850: "PA"}

# In nnSAM's order: a class's label is its place, from 1.
CLASSES = {"paper": (500, 600, 420, 550, 205), "all": (500, 600, 420, 550, 205, 820, 850)}

_STRAY = {421: 420}
_UNKNOWN = 255


def class_labels(classes: str) -> dict[str, int]:
    """Class name -> label in the converted data, background included.

    Args:
        classes: "paper" (LV, RV, LA, RA, Myo) or "all" (also AA, ascending aorta, and PA, pulmonary artery).

    Raises:
        InputError: another word.

    Example:
        >>> class_labels("paper")
        {'background': 0, 'LV': 1, 'RV': 2, 'LA': 3, 'RA': 4, 'Myo': 5}
    """
    if classes not in CLASSES:
        raise InputError(f"The choice of classes {classes!r} is unknown; expected {' or '.join(CLASSES)}.")
    return {"background": 0, **{NAMES[value]: label for label, value in enumerate(CLASSES[classes], 1)}}


def map_labels(values: NDArray, classes: str, source: str) -> tuple[NDArray[np.uint8], int]:
    """Turns MM-WHS's values into labels 1, 2, 3, ...; structures that are not wanted become background.

    Args:
        values: any shape and real type, MM-WHS's values.
        classes: "paper" or "all".
        source: the file, for messages.

    Returns:
        Labels of the same shape, and the number of voxels of the stray value 421.

    Raises:
        InputError: values that MM-WHS does not have.
    """
    class_labels(classes)
    if values.dtype.kind == "f":
        whole = values.astype(np.int32)
        if not np.array_equal(whole, values):
            raise _unknown_values(values, source)
        values = whole
    table = np.full(max(NAMES) + 2, _UNKNOWN, np.uint8)
    table[[0, *NAMES, *_STRAY]] = 0
    for label, value in enumerate(CLASSES[classes], 1):
        table[value] = label
    for stray, value in _STRAY.items():
        table[stray] = table[value]
    if values.min() < 0 or values.max() >= len(table):
        raise _unknown_values(values, source)
    labels = table[values]
    if (labels == _UNKNOWN).any():
        raise _unknown_values(values, source)
    return labels, sum(int(np.count_nonzero(values == stray)) for stray in _STRAY)


def absent_classes(present: Sequence[int] | set[int], classes: str) -> list[str]:
    """Names of the wanted classes that are not among the labels found.

    Args:
        present: labels as `map_labels` gives them.
        classes: "paper" or "all".
    """
    return [name for name, label in class_labels(classes).items() if label and label not in present]


def _unknown_values(values: NDArray, source: str) -> InputError:
    unique, counts = np.unique(values, return_counts=True)
    unknown = ~np.isin(unique, [0, *NAMES, *_STRAY])
    found = [f"{value:g}" for value in unique[unknown]]
    listed = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return InputError(
        f"{source} holds label values that are not MM-WHS's: {listed} ({counts[unknown].sum()} voxels); expected 0, "
        f"{', '.join(map(str, sorted(NAMES)))}. Is it an image, or a label file that was converted before?"
    )
