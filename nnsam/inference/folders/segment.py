"""Segments the objects in boxes, from files to files."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamError
from nnsam.inference.box.predictor import BoxPredictor
from nnsam.inference.bundle import is_bundle
from nnsam.inference.loading import load
from nnsam.io.finding import InputFile
from nnsam.io.formats import beside, check_outputs, label_dtype, label_ending, label_endings
from nnsam.io.overlay import draw_segmentation
from nnsam.io.writing import write_labels, write_object_probabilities, write_png
from nnsam.prompts.box_files import BoxSource


@dataclass(frozen=True)
class SegmentTask:
    """One input and the files to write for it.

    Attributes:
        input: what to segment.
        output: label map.
        overlay: PNG with masks and boxes; None for none.
        probabilities: npz; None for none.
    """

    input: InputFile
    output: Path
    overlay: Path | None = None
    probabilities: Path | None = None


def plan_tasks(
    inputs: Sequence[InputFile],
    output: str | Path,
    *,
    into_folder: bool,
    overlay: bool = False,
    probabilities: bool = False,
    protected: Iterable[Path] = (),
) -> list[SegmentTask]:
    """Decides which files are written; nothing is read or written yet.

    In a folder, overlays and probabilities go to subfolders, so that label maps are alone for `nnsam evaluate`.

    Args:
        inputs: what to segment.
        output: a file, or a folder.
        into_folder: `output` is a folder; else there is one input, and `output` is a folder where it exists as one or
            its name has no ending.
        overlay: write overlays.
        probabilities: write probabilities.
        protected: further files that must not be overwritten, as inputs must not.

    Raises:
        InputError: the output's ending does not fit, two inputs would be written to one file, or an input would be
            overwritten.
    """
    output = Path(output)
    if into_folder and output.is_file():
        raise InputError(f"{output} is a file, but a folder of images needs a folder for the label maps.")
    if into_folder or output.is_dir() or not output.suffix:
        tasks = [_task_in_folder(file, output, overlay, probabilities) for file in inputs]
    else:
        tasks = [_task_of_file(inputs[0], output, overlay, probabilities)]
    outputs = [
        (task.input.path, path)
        for task in tasks
        for path in (task.output, task.overlay, task.probabilities)
        if path is not None
    ]
    check_outputs(outputs, [*(task.input.path for task in tasks), *protected])
    return tasks


def _task_in_folder(file: InputFile, folder: Path, overlay: bool, probabilities: bool) -> SegmentTask:
    name = file.case + label_ending(file.kind, file.ending)
    return SegmentTask(
        file,
        folder / name,
        folder / "overlays" / f"{file.case}.png" if overlay else None,
        folder / "probabilities" / f"{file.case}.npz" if probabilities else None,
    )


def _task_of_file(file: InputFile, output: Path, overlay: bool, probabilities: bool) -> SegmentTask:
    endings = label_endings(file.kind)
    ending = next((ending for ending in endings if output.name.lower().endswith(ending)), None)
    if ending is None:
        raise InputError(
            f"{output} cannot hold the label map of {file.path}; expected a name ending with {', '.join(endings)}, or "
            "a folder."
        )
    return SegmentTask(
        file,
        output,
        beside(output, ending, "_overlay.png") if overlay else None,
        beside(output, ending, "_probabilities.npz") if probabilities else None,
    )


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
    checkpoint: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch_size: int = 8,
    threads: int = 0,
) -> tuple[BoxPredictor, str]:
    """Loads a trained model folder, or a bundle, which needs neither PyTorch nor nnU-Net.

    Args:
        folder: of nnU-Net, or written by `nnsam export`.
        folds: default: of a model folder see `BoxPredictor.from_folder`; of a bundle all.
        checkpoint: file in the folds, by default checkpoint_final.pth; bundles have none.
        device: "cpu" (default) or "cuda"; bundles run on the CPU.
        precision: by default "f32" for a model folder, which also takes "bf16" and "auto"; "auto" for a bundle, which
            also takes "f32", "bf16" and "int8". "float32" and "bfloat16" mean the same as the short names.
        batch_size: patches per call of the network.
        threads: number of CPU threads; 0 leaves the choice to PyTorch or OpenVINO.

    Returns:
        The predictor, and a sentence about how it was chosen, empty where there is nothing to tell.

    Raises:
        InputError: the folder is not one of a box model, the device is absent, or an option is not for this model.
        SetupError: PyTorch or OpenVINO is missing, or the CPU does not compute the precision.
    """
    default = "auto" if is_bundle(folder) else "f32"
    predictor = load(
        folder,
        device or "cpu",
        precision or default,
        threads,
        folds=folds,
        checkpoint=checkpoint,
        batch_size=batch_size,
        kind="box",
    )
    assert isinstance(predictor, BoxPredictor)
    return predictor, predictor.note


def segment_files(
    predictor: BoxPredictor,
    tasks: Sequence[SegmentTask],
    boxes: BoxSource,
    *,
    mode: str = "zoom",
    progress: Callable[[Sequence[SegmentTask]], Iterable[SegmentTask]] = lambda tasks: tasks,
) -> SegmentReport:
    """Segments every task; one that fails is noted, and the others are done.

    Args:
        predictor: see `load_predictor`.
        tasks: see `nnsam.inference.folders.segment.plan_tasks`.
        boxes: see `nnsam.prompts.box_files.open_box_source`.
        mode: zoom or faithful.
        progress: wraps the tasks, to show how far the work is.

    Raises:
        InputError: a model that takes no boxes; the errors of single tasks are in the report.

    Example:
        >>> from nnsam.inference.folders.segment import plan_tasks
        >>> from nnsam.io import find_images
        >>> from nnsam.prompts.box_files import open_box_source
        >>> tasks = plan_tasks(find_images("images"), "masks", into_folder=True)  # doctest: +SKIP
        >>> boxes = open_box_source(path="boxes.json")  # doctest: +SKIP
        >>> nnsam.segment_files(nnsam.load("box_bundle"), tasks, boxes).failures  # doctest: +SKIP
        {}
    """
    if not hasattr(predictor, "set_image"):
        raise InputError("this model segments images by itself and takes no boxes; use nnsam.predict_folder")
    report = SegmentReport()
    for task in progress(tasks):
        try:
            report.results.append(segment_case(predictor, task, boxes, mode))
        except NnsamError as error:
            report.failures[task.input.path] = str(error)
    return report


def segment_case(predictor: BoxPredictor, task: SegmentTask, boxes: BoxSource, mode: str) -> CaseResult:
    """Segments one input and writes its files.

    Raises:
        InputError: unreadable, boxes that do not fit, or a place that cannot be written to.
    """
    start = time.perf_counter()
    image = task.input.read()
    prompts = boxes(task.input, image)
    predictor.set_image(image.pixels, spacing=image.spacing, dimensions=image.dimensions)
    prediction = predictor.predict_inside(prompts.boxes, mode=mode)
    objects = prediction.label_map()
    labels: NDArray[Any] = np.array([0, *prompts.labels], dtype=label_dtype(prompts.labels))[objects]
    write_labels(task.output, image.with_pixels(labels))
    if task.overlay is not None:
        write_png(task.overlay, draw_segmentation(image.pixels, labels, prompts.boxes))
    if task.probabilities is not None:
        write_object_probabilities(task.probabilities, prediction, prompts.labels)
    return CaseResult(
        task.input.path,
        task.output,
        prediction.xyxy.tolist(),
        list(prompts.labels),
        [float(score) for score in prediction.scores],
        np.bincount(objects.ravel(), minlength=len(prompts.labels) + 1)[1:].tolist(),
        time.perf_counter() - start,
    )
