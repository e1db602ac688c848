"""One case of a folder: from its files to its label map, stage by stage."""

import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsam.errors import InputError, NnsamError
from nnsam.runtime.pipeline import RunCancelled
from nnsam.runtime.run_record import describe_inputs, describe_outputs

if TYPE_CHECKING:
    from nnsam.runtime.case_files import Case
    from nnsam.runtime.predictor import Predictor


@dataclass(frozen=True)
class RunOptions:
    """What the results of a run depend on, besides model and images.

    Attributes:
        precision: the one that is computed in, never "auto".
        folds: names of the folds that are averaged.
        mirror: average over the mirrored images that the model was trained with.
        step: distance of neighbouring tiles as a share of their size, above 0 and at most 1.
        save_probabilities: write the probabilities too.
    """

    precision: str
    folds: tuple[str, ...]
    mirror: bool = True
    step: float = 0.5
    save_probabilities: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise InputError(f"the step between tiles must be above 0 and at most 1; found {self.step}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "folds": list(self.folds)}


@dataclass
class CaseOutcome:
    """How a case ended.

    Attributes:
        case: its name.
        output: label map.
        seconds: "read", "infer" and "write"; reading includes the preprocessing, writing the restoration.
        inputs: see `nnsam.runtime.run_record.describe_inputs`.
        outputs: see `nnsam.runtime.run_record.describe_outputs`; empty unless it was done.
        error: one sentence; empty where it was done.
        trace: stack trace of an error that is not the user's to mend, else empty.
        skipped: an earlier run had done it.
    """

    case: str
    output: Path
    seconds: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    trace: str = ""
    skipped: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "case": self.case,
            "output": str(self.output),
            "skipped": self.skipped,
            "error": self.error or None,
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
        }


class CaseJob:
    """A case on its way; see `nnsam.runtime.pipeline.Job`.

    Args:
        predictor: the model.
        case: name and files.
        output: label map; the probabilities go beside it, to the same name with .npz.
        options: those of the run.
        on_tile: called during the inference with the case's name, tiles done and all tiles; what it raises ends the
            stage.
    """

    def __init__(
        self,
        predictor: "Predictor",
        case: "Case",
        output: Path,
        options: RunOptions,
        on_tile: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.predictor, self.case, self.options = predictor, case, options
        self.outcome = CaseOutcome(case.name, output)
        self.exception: Exception | None = None
        self._on_tile = on_tile
        self._prepared: Any = None
        self._logits: Any = None

    def read(self) -> None:
        """Reads and preprocesses the images."""
        with self._stage("read") as runs:
            if runs:
                self.outcome.inputs = describe_inputs(self.case.files)
                self._prepared = self.predictor.prepare_case(self.case)

    def infer(self) -> None:
        """Runs the network."""
        with self._stage("infer") as runs:
            if runs:
                on_tile, name = self._on_tile, self.case.name
                self._logits = self.predictor.infer(
                    self._prepared,
                    mirror=self.options.mirror,
                    step=self.options.step,
                    on_tile=on_tile and (lambda done, total: on_tile(name, done, total)),
                )
                self._prepared = self._prepared.without_pixels()

    def write(self) -> None:
        """Brings the result into the image's shape and writes it; then the case's arrays are given up."""
        with self._stage("write") as runs:
            if runs:
                self._write()
        self._prepared = self._logits = None

    def run(self) -> CaseOutcome:
        """Does all stages, one after the other."""
        self.read()
        self.infer()
        self.write()
        return self.outcome

    def _write(self) -> None:
        from nnsam.runtime.image_io import write_probabilities

        prediction = self.predictor.restore(self._logits, self._prepared)
        paths = output_files(self.outcome.output, self.predictor.file_ending, self.options)
        if self.options.save_probabilities:
            write_probabilities(paths[1], prediction.probabilities())
        self.predictor.write(prediction, paths[0])
        self.outcome.outputs = describe_outputs(paths)

    @contextmanager
    def _stage(self, name: str):
        start = time.perf_counter()
        try:
            yield self.exception is None
        except RunCancelled:
            raise
        except Exception as error:
            self._fail(error)
        finally:
            self.outcome.seconds[name] = time.perf_counter() - start

    def _fail(self, error: Exception) -> None:
        self.exception = error
        reason = str(error).strip() or type(error).__name__
        self._prepared = self._logits = None
        if isinstance(error, NnsamError):
            self.outcome.error = reason
        elif isinstance(error, OSError):
            self.outcome.error = f"{self.case.name}: {reason}"
        elif isinstance(error, MemoryError):
            self.outcome.error = f"{self.case.name} needs more memory than there is ({reason})"
        else:
            self.outcome.error = f"{self.case.name}: {type(error).__name__}: {reason}"
            self.outcome.trace = "".join(traceback.format_exception(error))


def output_files(output: Path, file_ending: str, options: RunOptions) -> list[Path]:
    """Returns the label map and, where they are wanted, the probabilities of a case, named as nnU-Net names them."""
    if not options.save_probabilities:
        return [output]
    return [output, output.with_name(output.name[: -len(file_ending)] + ".npz")]


def predict_one(predictor: "Predictor", case: "Case", output: Path, options: RunOptions) -> CaseOutcome:
    """Predicts a single case and writes its files, each complete or not at all.

    Raises:
        InputError: unreadable or unfitting images, or a place that cannot be written to.
        Exception: anything else that goes wrong.
    """
    job = CaseJob(predictor, case, output, options)
    job.run()
    if job.exception is not None:
        raise job.exception
    return job.outcome
