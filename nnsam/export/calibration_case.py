"""Where calibration patches come from: cases that can be asked for some."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CalibrationModel:
    """What has to be known of a trained model to make inputs for its network.

    Attributes:
        plans: nnU-Net's plans, as in plans.json.
        dataset_json: description of the data set, as in dataset.json.
        configuration: name of the configuration, for example "2d".
    """

    plans: Mapping[str, Any]
    dataset_json: Mapping[str, Any]
    configuration: str = "2d"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The plans' entry of the configuration, whatever it inherits filled in."""
        configurations = self.plans["configurations"]
        own = dict(configurations[self.configuration])
        while parent := own.pop("inherits_from", None):
            own = {**configurations[parent], **own}
        return own

    @property
    def patch_size(self) -> tuple[int, ...]:
        """(h, w), or (d, h, w), in pixels."""
        return tuple(int(side) for side in self.settings["patch_size"])

    @property
    def channels(self) -> int:
        """Number of image channels, without prompts."""
        return len(self.dataset_json.get("channel_names") or self.dataset_json["modality"])

    @property
    def has_prompts(self) -> bool:
        """Whether it is a box model."""
        return "nnsam_box" in self.settings


class CalibrationCase(Protocol):
    """One image.

    Attributes:
        name: of the image; patches of one name show one image.
    """

    @property
    def name(self) -> str:
        """See the class."""
        ...

    def patches(self, count: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """Returns `count` network inputs, (1, C, *patch) or, with prompts, (1, C + P, *patch)."""
        ...
