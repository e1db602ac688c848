"""Which classes to score: names and label values, from nnU-Net's dataset.json."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.support.files import read_json
from nnsam.support.text import shown


@dataclass(frozen=True)
class Classes:
    """Classes of a data set.

    Attributes:
        values: class name -> label values that form it; several for a region of region-based training. Without
            background.
        ignore: value of reference pixels that are not to be scored; None if there is none.
    """

    values: dict[str, tuple[int, ...]]
    ignore: int | None = None

    def check_values(self, found: NDArray[np.integer], owner: str, *, with_ignore: bool) -> None:
        """Raises InputError if `found` holds a value that no class has; `owner` names it in the message."""
        known = {0}.union(*self.values.values(), {self.ignore} if with_ignore and self.ignore is not None else set())
        unknown = sorted(set(np.unique(found).tolist()) - known)
        if unknown:
            hint = " Masks of 0 and 255 are written as 0 and 1." if unknown == [255] and 1 in known else ""
            raise InputError(f"{owner} holds the label values {unknown}, which dataset.json does not declare.{hint}")


def read_classes(dataset_json: str | Path) -> Classes:
    """Reads the classes from nnU-Net's dataset.json.

    Raises:
        InputError: the file is missing, not JSON, or without usable labels.
    """
    path = Path(dataset_json)
    content = read_json(path, "expected nnU-Net's dataset.json")
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict):
        raise InputError(f'{path} has no "labels"; expected nnU-Net\'s dataset.json.')
    values: dict[str, tuple[int, ...]] = {}
    ignore = None
    for name, value in labels.items():
        members = value if isinstance(value, list) else [value]
        if not members or not all(isinstance(member, int) and member >= 0 for member in members):
            raise InputError(
                f"{path} gives {shown(name)} the label {shown(value)}; expected a whole number or a list of them."
            )
        if name == "ignore":
            ignore = members[0]
        elif name != "background":
            values[name] = tuple(members)
    if not values:
        raise InputError(f"{path} declares no class besides the background.")
    return Classes(values, ignore)


def classes_from_values(found: set[int]) -> Classes:
    """Names every label value but 0 `label_<value>`, where no dataset.json tells more."""
    return Classes({f"label_{value}": (value,) for value in sorted(found - {0})})
