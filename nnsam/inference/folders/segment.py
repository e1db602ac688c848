"""Segments the objects in boxes, from files to files."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, NnsamError
from nnsam.geometry.boxes import slices
from nnsam.inference.box.predictor import BoxPredictor
from nnsam.inference.bundle import is_bundle
from nnsam.inference.folders.record import (
    SEGMENT_RECORD,
    RunRecord,
    describe_file,
    describe_inputs,
    output_name,
    own_outputs,
)
from nnsam.inference.loading import load
from nnsam.io.dicom.segmentation import import_highdicom
from nnsam.io.finding import InputFile
from nnsam.io.formats import SEG_ENDING, beside, format_of, label_dtype, label_ending, label_endings, with_data_files
from nnsam.io.image import Image, Segment, reason_of
from nnsam.io.overlay import DrawnObject, draw_segmentation
from nnsam.io.writing import write_labels, write_object_probabilities, write_png
from nnsam.prompts.box_files import BoxPrompts, BoxSource
from nnsam.support.concurrency import pass_on_ending
from nnsam.support.files import before_replacing
from nnsam.support.outputs import check_outputs


def _of_nobody(path: Path) -> bool:
    return False


@dataclass(frozen=True)
class SegmentTask:
    """One input and the files to write for it.

    Attributes:
        input: what to segment.
        output: label map.
        overlay: PNG with masks and boxes; None for none.
        probabilities: npz; None for none.
        kept: files that must not be overwritten, whatever further names the output gets.
        overwrite: replace files that exist.
        is_own: tells of one that exists whether an earlier run has written it, as it is, so that it may be replaced.
        folder: where the run's record is, see `SegmentRun`; None where the output is a file.
        reports: what is written besides, an option and its file.
    """

    input: InputFile
    output: Path
    overlay: Path | None = None
    probabilities: Path | None = None
    kept: tuple[Path, ...] = ()
    overwrite: bool = False
    is_own: Callable[[Path], bool] = _of_nobody
    folder: Path | None = None
    reports: tuple[tuple[str, str | Path | None], ...] = ()

    @property
    def outputs(self) -> list[Path]:
        """What is written, but for the files of separate objects."""
        return [path for path in (self.output, self.overlay, self.probabilities) if path is not None]


@dataclass(frozen=True)
class SegmentOptions:
    """How objects are found and written.

    Attributes:
        mode: "zoom" or "faithful", see `BoxPredictor.predict`.
        overlap: "smaller" or "score", who gets pixels of several objects, see `Prediction.label_map`.
        separate: no label map but the whole mask of each object: as a segment of a DICOM SEG, under the key `masks` of
            an npz file, else in a file of its own, `OUT_1.png`, `OUT_2.png`, ... in the order of the boxes.
        palette: label maps that are PNGs get a palette, so that labels are seen; their values stay.
    """

    mode: str = "zoom"
    overlap: str = "smaller"
    separate: bool = False
    palette: bool = False


def plan_tasks(
    inputs: Sequence[InputFile],
    output: str | Path,
    *,
    into_folder: bool,
    overlay: bool = False,
    probabilities: bool = False,
    dicom_seg: bool = False,
    palette: bool = False,
    protected: Iterable[Path] = (),
    reports: Iterable[tuple[str, str | Path | None]] = (),
    models: Iterable[str | Path] = (),
    overwrite: bool = False,
    separate: bool = False,
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
        dicom_seg: in a folder, write DICOM SEG instead of NIfTI for images of DICOM files.
        palette: label maps will have palettes.
        protected: further files that must not be overwritten, as inputs must not.
        reports: option and file of what is written besides.
        models: folders that nothing may be written into.
        overwrite: replace label maps, overlays and probabilities that exist and that no earlier run into this folder
            has written as they are.
        separate: see `SegmentOptions`.

    Raises:
        InputError: the output's ending does not fit, two inputs would be written to one file, an input or, without
            `overwrite`, an existing file would be overwritten, label maps would go into the folder of the images,
            `dicom_seg` for images that are not DICOM, or `palette` for label maps that are no PNGs.
    """
    output = Path(output)
    if into_folder and output.is_file():
        raise InputError(f"{output} is a file, but a folder of images needs a folder for the label maps.")
    ending = None if output.is_dir() else format_of(output)
    if into_folder and ending is not None:
        raise InputError(
            f"the label maps of a folder of images go into a folder; found {output}, a name ending with "
            f"{ending.ending}: give a folder's name."
        )
    folder = output if into_folder or output.is_dir() or not output.suffix else None
    if folder is not None:
        tasks = [_task_in_folder(file, output, overlay, probabilities, dicom_seg) for file in inputs]
    else:
        tasks = [_task_of_file(inputs[0], output, overlay, probabilities, dicom_seg)]
    outputs = [(task.input.path, path) for task in tasks for path in task.outputs]
    record = [] if folder is None else [(folder, folder / SEGMENT_RECORD)]
    without = next((task.output for task in tasks if not task.output.name.lower().endswith(".png")), None)
    if palette and without is not None:
        raise InputError(f"{without} cannot have a palette, which only PNGs have; leave out --palette.")
    if any(task.output.name.lower().endswith(SEG_ENDING) for task in tasks):
        import_highdicom()  # so that its absence is told before the work
    sources = [path for task in tasks for path in task.input.files]
    kept, reports = (*sources, *with_data_files(protected)), tuple(reports)
    check_outputs([*outputs, *record, *reports], kept, models=models)
    # Of separate objects, which may have names of their own, it is checked when it is known how many there are.
    maps = {task.output for task in tasks} if separate else set()
    is_own = _of_nobody if folder is None else own_outputs(folder, SEGMENT_RECORD)
    new = [pair for pair in outputs if pair[1] not in maps]
    check_outputs(new, (), overwrite=overwrite, is_own=is_own, has_record=folder is not None)
    if output.is_dir() and into_folder and any(output.samefile(file.path.absolute().parent) for file in inputs):
        raise InputError(f"{output} holds the images; choose another folder for the label maps.")
    return [
        replace(task, kept=kept, overwrite=overwrite, is_own=is_own, folder=folder, reports=reports) for task in tasks
    ]


def _task_in_folder(file: InputFile, folder: Path, overlay: bool, probabilities: bool, dicom_seg: bool) -> SegmentTask:
    if dicom_seg and SEG_ENDING not in label_endings(file.kind):
        raise InputError(
            f"{file.path} is not DICOM, so that a DICOM SEG has nothing to refer to; leave out --dicom-seg."
        )
    name = file.case + (SEG_ENDING if dicom_seg else label_ending(file.kind, file.ending))
    return SegmentTask(
        file,
        folder / name,
        folder / "overlays" / f"{file.case}.png" if overlay else None,
        folder / "probabilities" / f"{file.case}.npz" if probabilities else None,
    )


def _task_of_file(file: InputFile, output: Path, overlay: bool, probabilities: bool, dicom_seg: bool) -> SegmentTask:
    endings = label_endings(file.kind)
    ending = next((ending for ending in endings if output.name.lower().endswith(ending)), None)
    if ending is None:
        raise InputError(
            f"{output} cannot hold the label map of {file.path}; expected a name ending with {', '.join(endings)}, or "
            "a folder."
        )
    if dicom_seg and ending != SEG_ENDING:
        raise InputError(f"{output} is no DICOM SEG, for which --dicom-seg asks; leave it out or write *{SEG_ENDING}.")
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
        output: label map; of separate objects the name that theirs are made of.
        boxes: N boxes in the users' convention.
        labels: N label values in the output.
        scores: N numbers 0..1, how sure the network is of each object.
        areas: N numbers of pixels that each object has in the output.
        outputs: the files of separate objects; none where there is the label map.
        areas_mm2: N areas of the objects in a picture, as they are in the output; None where the pixel size is unknown.
        volumes_ml: N volumes of the objects in a volume; None likewise.
        seconds: reading, network and writing.
        notices: what the user has to know of the input, a sentence each, see `nnsam.io.Image`.
        skipped: an earlier run had done it.
    """

    file: Path
    output: Path
    boxes: list[list[int]]
    labels: list[int]
    scores: list[float]
    areas: list[int]
    seconds: float
    notices: tuple[str, ...] = ()
    outputs: tuple[Path, ...] = ()
    areas_mm2: list[float] | None = None
    volumes_ml: list[float] | None = None
    skipped: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        paths = {"file": str(self.file), "output": str(self.output), "outputs": [str(path) for path in self.outputs]}
        return {**vars(self), **paths}


# What a record holds of a result: all but the places, which may have changed.
_NOTED = ("boxes", "labels", "scores", "areas", "seconds", "notices", "areas_mm2", "volumes_ml")


@dataclass(frozen=True)
class SegmentReport:
    """Results and failures of a run.

    Attributes:
        results: of the cases that were done.
        failures: input -> one sentence.
    """

    results: list[CaseResult] = field(default_factory=list)
    failures: dict[Path, str] = field(default_factory=dict)


class SegmentRun:
    """An output folder that is being filled, with its record: what is finished need not be done again.

    A context, which writes the record at its end.

    Args:
        predictor: the model; another one is another run.
        tasks: of `plan_tasks`, into a folder.
        boxes: as they are asked for, see `nnsam.prompts.box_files.BoxSource.origin`.
        options: see the class.
        threads: of the CPU; sums are rounded otherwise with another number.
        resume: skip what an earlier run with the same model, boxes and options has finished.

    Attributes:
        folder: of the outputs.
        done: number of cases that are finished, those of earlier runs included.

    Raises:
        InputError: it cannot be continued, or the record cannot be written.

    Example:
        >>> with SegmentRun(predictor, tasks, boxes, SegmentOptions(), resume=True) as run:  # doctest: +SKIP
        ...     nnsam.segment_files(predictor, tasks, boxes, run=run)
    """

    def __init__(
        self,
        predictor: BoxPredictor,
        tasks: Sequence[SegmentTask],
        boxes: BoxSource,
        options: SegmentOptions,
        threads: int = 0,
        resume: bool = False,
    ) -> None:
        (folder,) = {task.folder for task in tasks}
        assert folder is not None, "tasks of a folder"
        self.folder: Path = folder
        self._boxes = boxes
        self.done = 0
        settings = {
            **asdict(options),
            "overlay": tasks[0].overlay is not None,
            "probabilities": tasks[0].probabilities is not None,
            "precision": predictor.precision,
            "folds": list(predictor.folds),
            "device": str(getattr(predictor.backend, "device", "cpu")),  # bundles compute on the CPU
            "batch_size": predictor.batch_size,
            "threads": threads,
        }
        self._record = RunRecord(self.folder, predictor.backend.digest, settings, SEGMENT_RECORD)
        if resume:
            self._record.resume()
        self._noted: dict[str, Any] = {}
        self._record.flush()

    def earlier(self, task: SegmentTask) -> CaseResult | None:
        """The result of an earlier run, where files, boxes and outputs are what they were."""
        entry = self._record.cases.get(task.output.name)
        if entry is None or not _is_result(entry.get("result")) or not _are_names(entry.get("separate")):
            return None  # no such case, or a damaged record
        try:
            origin = self._origin(task)
        except (InputError, OSError):  # told when the case is done
            return None
        separate = tuple(self.folder / name for name in entry["separate"])
        outputs = [*separate, *task.outputs[1:]] if separate else task.outputs
        if origin is None or not self._record.is_done(task.output.name, outputs, _files(task), prompts=origin):
            return None
        self.done += 1
        result = {**entry["result"], "notices": tuple(entry["result"]["notices"])}
        noted = {name: result[name] for name in _NOTED}
        return CaseResult(task.input.path, task.output, outputs=separate, skipped=True, **noted)

    def begin(self, task: SegmentTask) -> Mapping[str, Any]:
        """Describes what a case is made of, before it is read.

        Raises:
            InputError: a header that names what it may not.
        """
        self._noted = {}
        return {"inputs": describe_inputs(_files(task)), "prompts": self._origin(task)}

    def note(self, destination: Path, complete: Path) -> None:
        """Notes a file that is going to appear in the folder, see `nnsam.support.files.before_replacing`."""
        name = output_name(destination, self.folder)
        if name.startswith("..") or Path(name).is_absolute():
            return  # a compiled network in the cache
        self._noted[name] = describe_file(complete)
        self._record.note(name, self._noted[name])

    def _origin(self, task: SegmentTask) -> Any:
        return json.loads(json.dumps(self._boxes.origin(task.input)))

    def add(self, task: SegmentTask, result: CaseResult, made_of: Mapping[str, Any]) -> None:
        """Notes a case that is done.

        Args:
            task: of the case.
            result: what was found.
            made_of: see `begin`.
        """
        self.done += 1
        noted = result.as_dict()
        self._record.add(
            task.output.name,
            self._noted,
            made_of["inputs"],
            prompts=made_of["prompts"],
            separate=[path.name for path in result.outputs],
            result={name: noted[name] for name in _NOTED},
        )

    def __enter__(self) -> "SegmentRun":
        return self

    def __exit__(self, *error: object) -> None:
        self._record.close()


def _is_result(noted: Any) -> bool:
    """Whether a record holds what `CaseResult` has, with the right types."""
    if not isinstance(noted, dict) or not noted.keys() >= set(_NOTED):
        return False
    count = len(noted["labels"]) if isinstance(noted["labels"], list) else -1

    def holds(name: str, kinds: tuple[type, ...]) -> bool:
        values = noted[name]
        return isinstance(values, list) and len(values) == count and all(type(value) in kinds for value in values)

    numbers = (int, float)
    return (
        holds("labels", (int,))
        and holds("areas", (int,))
        and holds("scores", numbers)
        and holds("boxes", (list,))
        and all(type(value) is int for box in noted["boxes"] for value in box)
        and all(noted[name] is None or holds(name, numbers) for name in ("areas_mm2", "volumes_ml"))
        and type(noted["seconds"]) in numbers
        and isinstance(noted["notices"], list)
        and all(isinstance(notice, str) for notice in noted["notices"])
    )


def _are_names(noted: Any) -> bool:
    """Whether a record holds a list of plain names of files."""
    return isinstance(noted, list) and all(
        isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0") for name in noted
    )


def _files(task: SegmentTask) -> list[Path]:
    return [path for path in task.input.files if not path.is_dir()]


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
        device: of a model folder, by default "auto", see `nnsam.support.device.choose_device`; bundles run on the CPU.
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
        device or "auto",
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
    overlap: str = "smaller",
    separate: bool = False,
    palette: bool = False,
    run: SegmentRun | None = None,
    progress: Callable[[Sequence[SegmentTask]], Iterable[SegmentTask]] = lambda tasks: tasks,
) -> SegmentReport:
    """Segments every task; one that fails is noted, and the others are done.

    Args:
        predictor: see `load_predictor`.
        tasks: see `nnsam.inference.folders.segment.plan_tasks`.
        boxes: see `nnsam.prompts.box_files.open_box_source`.
        mode: zoom or faithful.
        overlap: smaller or score; with the next two see `nnsam.inference.folders.segment.SegmentOptions`.
        separate: a mask per object.
        palette: PNGs with colours.
        run: the record of the output folder; what it knows as finished is skipped.
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
    options = SegmentOptions(mode, overlap, separate, palette)
    report = SegmentReport()
    for task in progress(tasks):
        try:
            earlier = run.earlier(task) if run is not None else None
            report.results.append(earlier or segment_case(predictor, task, boxes, options, run))
        except Exception as error:  # of one case, whatever it is; the others are done
            pass_on_ending()
            report.failures[task.input.path] = _failure(task, error)
    return report


def _failure(task: SegmentTask, error: Exception) -> str:
    if isinstance(error, NnsamError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{task.input.path} needs more memory than there is ({reason_of(error)})"
    return f"{task.input.path}: {type(error).__name__}: {reason_of(error)}"


def segment_case(
    predictor: BoxPredictor,
    task: SegmentTask,
    boxes: BoxSource,
    options: SegmentOptions | None = None,
    run: SegmentRun | None = None,
) -> CaseResult:
    """Segments one input and writes its files.

    Args:
        predictor: see `load_predictor`.
        task: what to segment.
        boxes: see `nnsam.prompts.box_files.open_box_source`.
        options: default: those of the class.
        run: notes the case when its files are complete.

    Raises:
        InputError: unreadable, boxes that do not fit, or a place that cannot be written to.
    """
    options = options or SegmentOptions()
    if run is None:
        return _segment_case(predictor, task, boxes, options)
    made_of = run.begin(task)
    with before_replacing(run.note):
        result = _segment_case(predictor, task, boxes, options)
    run.add(task, result, made_of)
    return result


def _segment_case(predictor: BoxPredictor, task: SegmentTask, boxes: BoxSource, options: SegmentOptions) -> CaseResult:
    start = time.perf_counter()
    image = task.input.read()
    prompts = boxes(task.input, image)
    predictor.set_image(image.pixels, spacing=image.spacing, dimensions=image.dimensions)
    prediction = predictor.predict_inside(prompts.boxes, mode=options.mode)
    outputs: tuple[Path, ...] = ()
    if options.separate:
        masks = [found.mask for found in prediction.masks]
        outputs = _write_separate(task, image, prompts, masks, options.palette)
    else:
        objects = prediction.label_map(options.overlap)
        masks = [objects[slices(box)] == number for number, box in enumerate(prompts.boxes, 1)]
        labels: NDArray[Any] = np.array([0, *prompts.labels], dtype=label_dtype(prompts.labels))[objects]
        segments = [Segment(value, f"label {value}") for value in sorted(set(prompts.labels))]
        write_labels(
            task.output,
            image.with_pixels(labels),
            segments=segments,
            algorithm="SEMIAUTOMATIC",
            palette=options.palette,
        )
    if task.probabilities is not None:
        write_object_probabilities(task.probabilities, prediction, prompts.labels)
    result = CaseResult(
        task.input.path,
        task.output,
        prediction.xyxy.tolist(),
        list(prompts.labels),
        [float(score) for score in prediction.scores],
        [int(np.count_nonzero(mask)) for mask in masks],
        time.perf_counter() - start,
        image.notices,
        outputs,
    )
    result = _with_measures(result, image)
    if task.overlay is not None:
        drawn = [
            DrawnObject(box, mask, caption)
            for box, mask, caption in zip(prompts.boxes, masks, _captions(result), strict=True)
        ]
        write_png(task.overlay, draw_segmentation(image.pixels, drawn))
    return replace(result, seconds=time.perf_counter() - start)


def _with_measures(result: CaseResult, image: Image) -> CaseResult:
    """Adds sizes in mm2 or ml where the pixel size is known."""
    if image.spacing is None:
        return result
    size = math.prod(image.spacing)
    if image.dimensions == 2:
        return replace(result, areas_mm2=[area * size for area in result.areas])
    return replace(result, volumes_ml=[area * size / 1000 for area in result.areas])


def _captions(result: CaseResult) -> list[str]:
    sizes = [f"{area} pixels" for area in result.areas]
    if result.areas_mm2 is not None:
        sizes = [f"{area:.4g} mm2" for area in result.areas_mm2]
    elif result.volumes_ml is not None:
        sizes = [f"{volume:.4g} ml" for volume in result.volumes_ml]
    scores = [f"score {score:.2f}" for score in result.scores]
    return [f"label {label}, {size}, {score}" for label, size, score in zip(result.labels, sizes, scores, strict=True)]


def _check_new(task: SegmentTask, outputs: Iterable[Path]) -> None:
    """Refuses files that exist and may not be replaced."""
    pairs, has_record = [(path, path) for path in outputs], task.folder is not None
    check_outputs(pairs, (), overwrite=task.overwrite, is_own=task.is_own, has_record=has_record)


def _write_separate(
    task: SegmentTask, image: Image, prompts: BoxPrompts, masks: Sequence[NDArray[np.bool_]], palette: bool
) -> tuple[Path, ...]:
    """Writes each object's whole mask, see `SegmentOptions`; returns the files."""
    found = format_of(task.output)
    assert found is not None, "as planned"
    segments = []
    for number, (box, label, mask) in enumerate(zip(prompts.boxes, prompts.labels, masks, strict=True), 1):
        whole = np.zeros(image.shape, bool)
        whole[slices(box)] = mask
        segments.append(Segment(label, f"object {number}, label {label}", whole))
    if found.kind in ("dicom", "npz"):
        _check_new(task, [task.output])
        empty = image.with_pixels(np.zeros(image.shape, np.uint8))
        write_labels(task.output, empty, segments=segments, algorithm="SEMIAUTOMATIC")
        return (task.output,)
    outputs = [beside(task.output, found.ending, f"_{number}{found.ending}") for number in range(1, len(masks) + 1)]
    check_outputs([*((path, path) for path in outputs), *task.reports], task.kept)
    _check_new(task, outputs)
    for path, segment in zip(outputs, segments, strict=True):
        assert segment.mask is not None
        values = segment.mask.astype(label_dtype([segment.label])) * segment.label
        write_labels(path, image.with_pixels(values), palette=palette)
    return tuple(outputs)
