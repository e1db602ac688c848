"""Raw nnU-Net data sets: how they are written, and which cases one holds."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, SetupError
from nnsam.io.finding import group_channels, visible
from nnsam.io.formats import kind_of
from nnsam.support.files import read_json, write_json

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
    write_json(folder / "dataset.json", content, indent=2)


@dataclass(frozen=True)
class SourceCase:
    """Files of one labelled case.

    Attributes:
        name: of the case.
        images: one file per channel; a single one for a colour picture.
        label: the label map.
    """

    name: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class Source:
    """A raw nnU-Net data set.

    Attributes:
        folder: DatasetXXX_Name.
        dataset: content of dataset.json.
        training: labelled cases of imagesTr by name, sorted.
        test: those of imagesTs; empty where it has no labelsTs.
    """

    folder: Path
    dataset: Mapping[str, Any]
    training: Mapping[str, SourceCase]
    test: Mapping[str, SourceCase]

    @property
    def cases(self) -> dict[str, SourceCase]:
        """All labelled cases by name."""
        return {**self.training, **self.test}


def find_source(dataset: str | int) -> Path:
    """Finds a raw data set: by its folder, or by its number or name in $nnUNet_raw.

    Raises:
        InputError: no such folder.
        SetupError: a number or name, and nnUNet_raw is not set.
    """
    text = str(dataset)
    if Path(text).is_dir():
        return Path(text)
    raw = os.environ.get("nnUNet_raw")
    if re.fullmatch(r"\d+|Dataset\d{3}_[\w.-]+", text) is None:
        raise InputError(f"{text} is no folder; expected a raw nnU-Net data set, or the number or name of one")
    if not raw:
        raise SetupError(
            f"{text} is no folder here, and the environment variable nnUNet_raw, in which data sets are looked up by "
            "number or name, is not set; set it, or give the data set's folder"
        )
    pattern = f"Dataset{int(text):03d}_*" if text.isdigit() else text
    found = sorted(path for path in Path(raw).glob(pattern) if path.is_dir())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(f"expected one data set {text} in {raw}; found {names}; give the data set's folder")
    return found[0]


def read_source(folder: str | Path) -> Source:
    """Lists the labelled cases of a raw data set and checks that every image has its label and channels.

    Raises:
        InputError: no usable dataset.json; a file that is neither image nor label; an image without label, a label
            without image; missing channels; a case in imagesTr and imagesTs.
    """
    folder = Path(folder).absolute()
    dataset = _read_dataset_json(folder / "dataset.json")
    training = _cases(folder, "Tr", dataset)
    if not training:
        raise InputError(f"{folder} holds no images in imagesTr; expected a raw nnU-Net data set with training cases")
    test = _cases(folder, "Ts", dataset) if (folder / "labelsTs").is_dir() else {}
    both = sorted(training.keys() & test.keys())
    if both:
        raise InputError(f"{folder} holds case {both[0]} in imagesTr and in imagesTs; give each its own name")
    return Source(folder, dataset, training, test)


def _read_dataset_json(path: Path) -> dict[str, Any]:
    missing = f"{path.parent} holds no dataset.json; expected a raw nnU-Net data set"
    content = read_json(path, "expected nnU-Net's dataset.json", missing)
    kinds = {"channel_names": dict, "labels": dict, "file_ending": str}
    wrong = [
        key for key, kind in kinds.items() if not isinstance(content, dict) or not isinstance(content.get(key), kind)
    ]
    if wrong:
        raise InputError(f"{path} lacks {', '.join(wrong)}; expected nnU-Net's dataset.json")
    if "dataset" in content:
        raise InputError(
            f'{path} lists its files under "dataset"; expected them in imagesTr and labelsTr, under nnU-Net\'s usual '
            "names: link or copy them there and remove the list"
        )
    return content


def _cases(folder: Path, part: str, dataset: Mapping[str, Any]) -> dict[str, SourceCase]:
    images, labels = folder / f"images{part}", folder / f"labels{part}"
    ending = dataset["file_ending"]
    channels, others = group_channels(visible(images), ending)
    for path in others:
        raise InputError(f"{path} is an extra file: images are called CASE_0000{ending}; move it elsewhere")
    maps: dict[str, Path] = {}
    for path in visible(labels):
        if not path.name.endswith(ending):
            raise InputError(f"{path} is an extra file: label maps are called CASE{ending}; move it elsewhere")
        maps[path.name[: -len(ending)]] = path
    for case in sorted(channels.keys() ^ maps.keys()):
        if case in maps:
            raise InputError(f"{maps[case]} is a label without image; add {images.name}/{case}_0000{ending} or move it")
        found = next(iter(channels[case].values()))
        raise InputError(f"{found} is an image without label; add {labels.name}/{case}{ending} or move the image")
    for case, files in channels.items():
        _check_channels(case, files, dataset, images)
    return {
        case: SourceCase(case, tuple(path for _, path in sorted(channels[case].items())), maps[case])
        for case in sorted(maps)
    }


def _check_channels(case: str, files: Mapping[int, Path], dataset: Mapping[str, Any], images: Path) -> None:
    count = len(dataset["channel_names"])
    # nnU-Net reads a colour picture's three channels from one file.
    expected = [1, count] if count == 3 and kind_of(dataset["file_ending"]) == "picture" else [count]
    if sorted(files) not in [list(range(number)) for number in expected]:
        found = ", ".join(files[channel].name for channel in sorted(files))
        raise InputError(
            f"case {case} of {images} has the files {found}; expected {count} channels, _0000 to _{count - 1:04d}, as "
            "dataset.json names them"
        )
