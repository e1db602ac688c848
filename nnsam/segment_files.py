"""Segments the objects in boxes, from files to files."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsam.data.atomic import atomic_file
from nnsam.data.box_overlay import draw_segmentation
from nnsam.data.image_files import write_png
from nnsam.data.input_image import InputImage
from nnsam.data.segmentation_files import label_dtype, write_probabilities, write_segmentation
from nnsam.errors import NnsamError
from nnsam.prompts.box_files import BoxPrompts, BoxSource
from nnsam.prompts.convention import from_challenge
from nnsam.segment_tasks import SegmentTask

if TYPE_CHECKING:
    from nnsam.inference import BoxPredictor


@dataclass(frozen=True)
class CaseResult:
    """What was found in one input.

    Attributes:
        file: input.
        output: label map.
        boxes: N boxes in the users' convention.
        labels: N label values in the output.
        scores: N numbers 0..1, how sure the network is of each object.
        areas: N numbers of pixels that each object has in the output.
        seconds: reading, network and writing.
    """

    file: Path
    output: Path
    boxes: list[list[int]]
    labels: list[int]
    scores: list[float]
    areas: list[int]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "file": str(self.file), "output": str(self.output)}


@dataclass(frozen=True)
class SegmentReport:
    """Results and failures of a run.

    Attributes:
        results: of the cases that were done.
        failures: input -> one sentence.
    """

    results: list[CaseResult] = field(default_factory=list)
    failures: dict[Path, str] = field(default_factory=dict)


def load_predictor(
    folder: str | Path,
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: str = "cpu",
    precision: str = "float32",
    batch_size: int = 8,
) -> tuple["BoxPredictor", str]:
    """Loads a trained model folder; the arguments are those of `BoxPredictor.from_folder`.

    Returns:
        The predictor, and a sentence about which fold was chosen, empty where there was no choice.

    Raises:
        InputError: the folder is not one of a box trainer, or the device is absent.
    """
    from nnsam.inference import BoxPredictor

    predictor = BoxPredictor.from_folder(folder, folds, checkpoint, device, precision=precision, batch_size=batch_size)
    return predictor, getattr(predictor.backend, "note", "")


def segment_files(
    predictor: "BoxPredictor",
    tasks: Sequence[SegmentTask],
    boxes: BoxSource,
    *,
    mode: str = "zoom",
    progress: Callable[[Sequence[SegmentTask]], Iterable[SegmentTask]] = lambda tasks: tasks,
) -> SegmentReport:
    """Segments every task; one that fails is noted, and the others are done.

    Args:
        predictor: see `load_predictor`.
        tasks: see `nnsam.segment_tasks.plan_tasks`.
        boxes: see `nnsam.prompts.box_files.open_box_source`.
        mode: zoom or faithful.
        progress: wraps the tasks, to show how far the work is.
    """
    report = SegmentReport()
    for task in progress(tasks):
        try:
            report.results.append(segment_case(predictor, task, boxes, mode))
        except NnsamError as error:
            report.failures[task.input.path] = str(error)
    return report


def segment_case(predictor: "BoxPredictor", task: SegmentTask, boxes: BoxSource, mode: str) -> CaseResult:
    """Segments one input and writes its files.

    Raises:
        InputError: unreadable, boxes that do not fit, or a place that cannot be written to.
    """
    start = time.perf_counter()
    image = task.input.read()
    prompts = boxes(task.input, image)
    predictor.set_image(image.pixels, spacing=image.spacing, dimensions=image.dimensions)
    prediction = predictor.predict(prompts.boxes, mode=mode)
    objects = prediction.label_map()
    labels = np.array([0, *prompts.labels], dtype=label_dtype(prompts.labels))[objects]
    write_segmentation(task.output, labels, image)
    if task.overlay is not None:
        _write_overlay(task.overlay, image, labels, prompts)
    if task.probabilities is not None:
        write_probabilities(task.probabilities, prediction, prompts.labels)
    return CaseResult(
        task.input.path,
        task.output,
        prompts.boxes.tolist(),
        list(prompts.labels),
        [float(score) for score in prediction.scores],
        np.bincount(objects.ravel(), minlength=len(prompts.labels) + 1)[1:].tolist(),
        time.perf_counter() - start,
    )


def _write_overlay(path: Path, image: InputImage, labels: NDArray[np.integer], prompts: BoxPrompts) -> None:
    with atomic_file(path) as draft:
        write_png(draft, draw_segmentation(image.pixels, labels, from_challenge(prompts.boxes)))
