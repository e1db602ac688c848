"""The folder layout that nnU-Net v2 calls a raw data set: file names and dataset.json."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnsam.errors import InputError

# A class is one label value, or in region-based training the list of values that it unites.
LabelNames = Mapping[str, int | Sequence[int]]

_FOLDER_NAME = re.compile(r"Dataset\d{3}_\w[\w.-]*")


def check_dataset_folder_name(folder: str | Path) -> str:
    """Returns the folder's name if nnU-Net accepts it (DatasetXXX_Name), else raises InputError."""
    name = Path(folder).absolute().name
    if not _FOLDER_NAME.fullmatch(name):
        raise InputError(
            f"nnU-Net needs a folder called DatasetXXX_Name (three digits), e.g. Dataset101_Hearts; found {name!r}."
        )
    return name


def image_name(case: str, file_ending: str, channel: int = 0) -> str:
    """File name of a case's image; one file holds all three channels of an RGB image."""
    return f"{case}_{channel:04d}{file_ending}"


def write_dataset_json(
    folder: Path,
    *,
    name: str,
    channel_names: Sequence[str],
    labels: LabelNames,
    num_training: int,
    file_ending: str,
    regions_class_order: Sequence[int] | None = None,
    description: str | None = None,
) -> None:
    """Writes dataset.json in nnU-Net v2's format.

    Args:
        folder: the raw data set's folder.
        name: name of the data set, for the reader.
        channel_names: one per channel; nnU-Net chooses the normalisation by it ("CT": by Hounsfield units over the
            whole data set; any other name: z-score per image).
        labels: class name -> value, or list of values for a region; must hold "background": 0.
        num_training: number of cases in imagesTr.
        file_ending: of images and labels, with the dot.
        regions_class_order: label value that each region, in the order of `labels` without background and ignore, is
            written as; later ones overwrite earlier ones. Needed if any class is a list.
        description: one sentence for the reader.
    """
    content: dict[str, object] = {
        "name": name,
        "channel_names": {str(index): channel for index, channel in enumerate(channel_names)},
        "labels": {key: value if isinstance(value, int) else list(value) for key, value in labels.items()},
        "numTraining": num_training,
        "file_ending": file_ending,
    }
    if regions_class_order is not None:
        content["regions_class_order"] = list(regions_class_order)
    if description is not None:
        content["description"] = description
    (folder / "dataset.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
