"""Which files `nnsam segment` writes for which input."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnsam.data.input_files import InputFile
from nnsam.data.segmentation_files import LABEL_ENDINGS, label_ending
from nnsam.errors import InputError


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
    _check_outputs(tasks, protected)
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
    endings = LABEL_ENDINGS[file.kind]
    ending = next((ending for ending in endings if output.name.lower().endswith(ending)), None)
    if ending is None:
        raise InputError(
            f"{output} cannot hold the label map of {file.path}; expected a name ending with {', '.join(endings)}, or "
            "a folder."
        )
    stem = output.name[: -len(ending)]
    return SegmentTask(
        file,
        output,
        output.with_name(f"{stem}_overlay.png") if overlay else None,
        output.with_name(f"{stem}_probabilities.npz") if probabilities else None,
    )


def _check_outputs(tasks: Sequence[SegmentTask], protected: Iterable[Path]) -> None:
    sources = {task.input.path.resolve() for task in tasks} | {path.resolve() for path in protected}
    written: dict[Path, Path] = {}
    for task in tasks:
        for path in (task.output, task.overlay, task.probabilities):
            if path is None:
                continue
            if path.resolve() in sources:
                raise InputError(f"{path} is an input and would be overwritten; choose another output.")
            other = written.setdefault(path.resolve(), task.input.path)
            if other != task.input.path:
                raise InputError(
                    f"{other.name} and {task.input.path.name} would both be written to {path}; rename one of them."
                )
