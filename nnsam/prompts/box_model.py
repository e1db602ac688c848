"""What inference has to know of a box model, whatever computes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnsam.errors import InputError
from nnsam.io.formats import COLOURED, kind_of
from nnsam.prompts.encoding import check_encoding
from nnsam.support.text import clipped, shown


@dataclass(frozen=True)
class BoxModelSpec:
    """A box model seen from outside.

    Attributes:
        patch_size: (h, w) of the network's input in pixels.
        image_channels: 1 for grey, 3 for RGB.
        prompt: name of the prompt encoding, see :func:`nnsam.prompts.encoding.encode_box`.
        spacing: pixel size (y, x) in mm to which training images were resampled; None where they were not.
        per_slice_normalization: normalise each slice of a volume alone, as the pictures in training, instead of the
            whole volume.
        trainer: name of the trainer, for messages.
        transpose: which axis of a volume (z, y, x) comes first, second and third in training, nnU-Net's
            `transpose_forward`: slices lie along the first of them, the axis of the largest spacing. Pictures, and
            volumes of one slice, have no such choice and stay as they are.
    """

    patch_size: tuple[int, int]
    image_channels: int = 1
    prompt: str = "binary"
    spacing: tuple[float, float] | None = None
    per_slice_normalization: bool = True
    trainer: str = ""
    transpose: tuple[int, int, int] = (0, 1, 2)

    def __post_init__(self) -> None:
        check_encoding(self.prompt)
        if self.image_channels not in (1, 3):
            raise InputError(
                f"the model has {self.image_channels} image channels; box prompts work on grey (1) or RGB (3) images"
            )
        if sorted(self.transpose) != [0, 1, 2]:
            raise InputError(f"the model's order of axes is {self.transpose}; expected 0, 1 and 2 in some order")

    def axes(self, dimensions: int) -> tuple[int, ...]:
        """The order of an image's axes in training, of 2 or 3 dimensions."""
        return self.transpose if dimensions == 3 else tuple(range(dimensions))

    @classmethod
    def from_plans(
        cls, plans: Mapping[str, Any], dataset_json: Mapping[str, Any], trainer: str = "", configuration: str = "2d"
    ) -> "BoxModelSpec":
        """Reads plans that `nnsam plan-box` wrote, and the data set's description.

        Everything that was planned on single slices has no spacing here, and so have files of pictures (PNG, TIFF, ...)
        where nnU-Net calls the pixel size 1 in both directions for want of one; volumes of 1 mm have 1 mm.

        Raises:
            InputError: plans without box prompts, damaged ones, or a number of channels that is not 1 or 3.
        """
        settings = plans.get("configurations", {}).get(configuration, {})
        if "nnsam_box" not in settings:
            raise InputError(
                f"configuration {shown(configuration)} of the plans {shown(plans.get('plans_name'))} was "
                f"not made for box "
                f"prompts; give a model that was trained with plans of `nnsam plan-box`"
            )
        try:
            height, width = (int(side) for side in settings["patch_size"])
            spacing_y, spacing_x = (float(value) for value in settings["spacing"][-2:])
            pictures = int(plans["original_median_shape_after_transp"][0]) == 1
            channels = len(dataset_json.get("channel_names") or dataset_json["modality"])
            prompt = settings["nnsam_box"]["prompt"]
            transpose = _three_axes(plans.get("transpose_forward", (0, 1, 2)))
            is_picture_file = kind_of(str(dataset_json.get("file_ending", ""))) in COLOURED
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"the model's plans or dataset.json are incomplete or damaged ({clipped(repr(error))})"
            ) from None
        is_unknown = pictures or (is_picture_file and spacing_y == spacing_x == 1)
        return cls(
            patch_size=(height, width),
            image_channels=channels,
            prompt=prompt,
            spacing=None if is_unknown else (spacing_y, spacing_x),
            per_slice_normalization=pictures,
            trainer=trainer,
            transpose=transpose,
        )

    def as_section(self) -> dict[str, Any]:
        """Returns the section `box` of a model's description; the rest of it is in other sections."""
        return {
            "prompt": self.prompt,
            "spacing": None if self.spacing is None else list(self.spacing),
            "per_slice_normalization": self.per_slice_normalization,
            "transpose": list(self.transpose),
        }

    def to_manifest(self) -> dict[str, Any]:
        """Returns as much of a model's description as inference with boxes asks for; inverse of `from_manifest`."""
        return {
            "kind": "box",
            "model": {"trainer": self.trainer},
            "input": {"channels": self.image_channels},
            "tiling": {"patch_size": list(self.patch_size)},
            "labels": {"outputs": 2},
            "box": self.as_section(),
        }

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> "BoxModelSpec":
        """Reads the description of an exported box model, see :mod:`nnsam.exporting.manifest`.

        Raises:
            InputError: the description lacks something.
        """
        try:
            box = manifest["box"]
            # Bundles of earlier versions say it among the preprocessing only.
            earlier = manifest.get("preprocessing", {}).get("transpose_forward", (0, 1, 2))
            height, width = (int(side) for side in manifest["tiling"]["patch_size"])
            return cls(
                patch_size=(height, width),
                image_channels=int(manifest["input"]["channels"]),
                prompt=box["prompt"],
                spacing=None if box["spacing"] is None else (float(box["spacing"][0]), float(box["spacing"][1])),
                per_slice_normalization=bool(box["per_slice_normalization"]),
                trainer=str(manifest["model"]["trainer"]),
                transpose=_three_axes(box.get("transpose", earlier)),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"the bundle's description of its box model is incomplete ({clipped(repr(error))})"
            ) from None


def _three_axes(values: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = (int(value) for value in values)
    return first, second, third
