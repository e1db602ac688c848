"""What the labels of a data set mean to a network that knows only background and prompted object."""

from dataclasses import dataclass
from typing import Any

from nnsam.training.prompt_transform import IGNORE_LABEL

# A label called so holds many objects, each one connected component, that share a value only to keep apart from their
# neighbours; see nnsam.data.object_labels.
INSTANCE_PREFIX = "instance"


@dataclass(frozen=True)
class BoxLabels:
    """Labels of a data set, as prompts see them.

    Attributes:
        for_network: the entry "labels" of dataset.json that the trained model gets.
        single_component: label values of which only single components are objects.
        ignore: value of pixels without annotation, or None.
    """

    for_network: dict[str, int]
    single_component: frozenset[int]
    ignore: int | None


def prompt_labels(dataset_json: dict[str, Any]) -> BoxLabels:
    """Reads a dataset.json, of the raw data set or of a trained box model.

    Example:
        >>> prompt_labels({"labels": {"background": 0, "liver": 1, "instance_1": 2}}).single_component
        frozenset({2})
    """
    labels = dataset_json["labels"]
    single = frozenset(
        value for name, value in labels.items() if name.startswith(INSTANCE_PREFIX) and isinstance(value, int)
    )
    for_network = {"background": 0, "object": 1}
    if "ignore" in labels:
        for_network["ignore"] = IGNORE_LABEL
    return BoxLabels(for_network, single, labels.get("ignore"))
