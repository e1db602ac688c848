"""Writes converted MM-WHS cases and keeps count of patients, classes and what a reader should know."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.datasets.mmwhs.files import absent_classes, class_labels, map_labels
from nnsam.datasets.mmwhs.slices import Slice
from nnsam.errors import InputError
from nnsam.io.finding import image_name
from nnsam.io.image import Image
from nnsam.io.writing import write_image, write_labels
from nnsam.nnunet.raw_dataset import write_dataset_json
from nnsam.support.files import write_json

_ENDING = ".nii.gz"


@dataclass(frozen=True)
class MMWHSConversion:
    """What was written.

    Attributes:
        cases: "train" and "test" -> number of cases.
        patients: number of patients.
        labels: class name -> value, background included.
        rule: how cases were made, one phrase.
        notes: sentences about what is not as one might expect.
    """

    cases: dict[str, int]
    patients: int
    labels: dict[str, int]
    rule: str
    notes: tuple[str, ...]


class Writer:
    """Collects cases in a folder that becomes a raw nnU-Net data set by `finish`.

    Args:
        folder: where to write.
        classes: "paper" or "all".
    """

    def __init__(self, folder: Path, classes: str) -> None:
        self._folder = folder
        self._classes = classes
        self._patients: dict[str, str] = {}
        self._counts = {"train": 0, "test": 0}
        self._present: set[int] = set()
        self._cut: list[str] = []
        self._notes: list[str] = []

    @property
    def class_count(self) -> int:
        """Number of classes, without the background."""
        return len(class_labels(self._classes)) - 1

    def note(self, sentence: str) -> None:
        """Keeps a sentence for the user."""
        self._notes.append(sentence)

    def note_ignored(self, places: list[str]) -> None:
        """Notes files that no case was made of."""
        if places:
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            self.note(f"Left out, since their names are not MM-WHS's: {', '.join(places[:3])}{more}.")

    def labels(self, values: NDArray, place: str) -> NDArray[np.uint8]:
        """Maps MM-WHS's values; see `map_labels`."""
        labels, stray = map_labels(values, self._classes, place)
        if stray:
            self.note(f"{place} holds {stray} voxels of the stray value 421, taken as 420 (LA).")
        return labels

    def add_slice(self, case: str, patient: str, item: Slice, *, test: bool = False) -> None:
        """Writes a 2D case."""
        part = self._register(case, patient, item.labels, test)
        if item.cut:
            self._cut.append(case)
        image = Image(item.image, 2, item.spacing_xy[::-1])
        write_image(self._folder / f"images{part}" / image_name(case, _ENDING), image)
        write_labels(self._folder / f"labels{part}" / f"{case}{_ENDING}", image.with_pixels(item.labels))

    def add_volume(
        self, case: str, patient: str, image: Image, labels: NDArray[np.uint8] | None, *, test: bool = False
    ) -> None:
        """Writes a 3D case in the file's own orientation, with the image's geometry for both."""
        part = self._register(case, patient, labels, test)
        write_image(self._folder / f"images{part}" / image_name(case, _ENDING), image)
        if labels is not None:
            write_labels(self._folder / f"labels{part}" / f"{case}{_ENDING}", image.with_pixels(labels))

    def finish(self, name: str, rule: str) -> MMWHSConversion:
        """Writes dataset.json and patients.json.

        Args:
            name: name in dataset.json.
            rule: how the cases were made.
        """
        labels = class_labels(self._classes)
        absent = absent_classes(self._present, self._classes)
        if absent and len(absent) < len(labels):
            self.note(f"No case holds {', '.join(absent)}; choose other classes or check the labels.")
        if self._cut:
            self.note(
                f"The window cuts off labelled pixels in {len(self._cut)} slices ({self._cut[0]} is the first); a "
                "larger --size or --fit resample keeps them."
            )
        modalities = {case[:2] for case in self._patients}
        channel = {"ct": "CT", "mr": "MR"}[modalities.pop()] if len(modalities) == 1 else "CT or MR"
        write_dataset_json(
            self._folder,
            name=name,
            channel_names=(channel,),
            labels=labels,
            num_training=self._counts["train"],
            file_ending=_ENDING,
            description=f"MM-WHS; {rule}. Patients of the cases: patients.json.",
        )
        write_json(self._folder / "patients.json", dict(sorted(self._patients.items())), indent=2)
        cases = {part: count for part, count in self._counts.items() if count}
        return MMWHSConversion(cases, len(set(self._patients.values())), labels, rule, tuple(self._notes))

    def _register(self, case: str, patient: str, labels: NDArray[np.uint8] | None, test: bool) -> str:
        if case in self._patients:
            raise InputError(f"Two files would both become the case {case}; give the folder of one of them.")
        self._patients[case] = patient
        self._counts["test" if test else "train"] += 1
        if labels is not None:
            self._present.update(np.flatnonzero(np.bincount(labels.ravel(), minlength=1)).tolist())
        return "Ts" if test else "Tr"
