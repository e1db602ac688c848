"""Train, predict, export and evaluate nnSAM on a small synthetic data set, offline; some minutes on two cores.

Makes 4 training and 4 test images of a heart phantom with 5 structures, and runs nnU-Net's own commands on them with
nnSAMTrainer. SAM's weights are used where `nnsam weights status` finds them; otherwise the SAM branch has random
weights, and the output says so.

Example:
  nnsam demo --out nnsam_demo
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, NnsamError
from nnsam.nnunet.commands import run_nnunet
from nnsam.support.device import DEVICES, training_device
from nnsam.support.files import read_json, write_json

DATASET = "Dataset999_NnsamDemo"
CASES = 4
# Share of pixels in which the exported model may differ, in float32.
TOLERANCE = 1e-4


@dataclass
class DemoResult:
    """What a demo run made.

    Attributes:
        folder: the output folder.
        trainer: name of the trainer, with its options.
        random_weights: whether the SAM branch had random weights.
        exported_difference: share of pixels in which the exported model's label maps differ.
        evaluation: scores of the test cases, see :func:`nnsam.metrics.evaluation.evaluate`.
        overlays: the pictures.
        seconds: time per step.
    """

    folder: Path
    trainer: str
    random_weights: bool
    exported_difference: float = 1.0
    evaluation: Any = None
    overlays: list[Path] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Demo:
    """Runs the demo in a folder of its own.

    Args:
        folder: where everything goes; absent or empty.
        device: "cpu" or "cuda".
        epochs: epochs of the training.
        iterations: training iterations per epoch.
        report: receives one line when a step begins.

    Raises:
        InputError: the folder is not empty.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str = "cpu",
        epochs: int = 4,
        iterations: int = 60,
        report: Callable[[str], object] = lambda line: None,
    ):
        self.folder = Path(folder).absolute()
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise InputError(f"{self.folder} exists and is not an empty folder; give another one with --out")
        self.device = device
        self.report = report
        self.log = self.folder / "log.txt"
        self.trainer = f"nnSAMTrainer_{epochs}epochs_{iterations}iters_sam256_seed0"
        self.environment = self._nnunet_folders("nnunet")

    def run(self) -> DemoResult:
        """Runs all steps; see the class."""
        from nnsam.datasets.phantom import write_phantom_dataset
        from nnsam.metrics.evaluation import evaluate

        self.folder.mkdir(parents=True, exist_ok=True)
        result = DemoResult(self.folder, self.trainer, self._choose_weights())
        raw = Path(self.environment["nnUNet_raw"]) / DATASET
        model = ["-d", DATASET, "-c", "2d", "-tr", self.trainer, "-f", "all"]
        predictions, again = self.folder / "predictions", self.folder / "predictions_exported_model"
        with self._step(result, f"make a data set of {CASES} training and {CASES} test phantoms"):
            write_phantom_dataset(raw, n_train=CASES, n_test=CASES)
        with self._step(result, "plan and preprocess (nnUNetv2_plan_and_preprocess)"):
            self._nnunet("nnUNetv2_plan_and_preprocess", "-d", DATASET[7:10], "-c", "2d", "-np", "1")
        with self._step(result, f"train {self.trainer} on the {self.device} (nnUNetv2_train)"):
            self._nnunet("nnUNetv2_train", DATASET, "2d", "all", "-tr", self.trainer, "-device", self.device)
        with self._step(result, "predict the test images (nnUNetv2_predict)"):
            self._predict(model, raw / "imagesTs", predictions)
        bundle = self.folder / "bundle"
        with self._step(result, "export the model to OpenVINO and compare it with PyTorch (nnsam export)"):
            trained = f"{self.trainer}__nnUNetPlans__2d"
            self._nnunet("nnsam", "export", Path(self.environment["nnUNet_results"], DATASET, trained), "-o", bundle)
        with self._step(result, "predict with the exported model, without PyTorch (nnsam predict)"):
            options = ["--precision", "f32", "--disable-tta"]
            self._nnunet("nnsam", "predict", bundle, "-i", raw / "imagesTs", "-o", again, *options)
            result.exported_difference = different_pixels(predictions, again)
        with self._step(result, "evaluate and draw"):
            result.evaluation = evaluate(predictions, raw / "labelsTs", dataset_json=raw / "dataset.json")
            result.overlays = self._draw(raw, predictions)
        if result.exported_difference > TOLERANCE:
            raise NnsamError(
                f"the exported model predicts {result.exported_difference:.2%} of the pixels differently; "
                f"compare {predictions} and {again}"
            )
        return result

    def _choose_weights(self) -> bool:
        """Uses SAM's weights where they are on this machine already, else says that it uses random ones."""
        from nnsam.weights import status

        state = status()
        # The demo works offline: it takes what is there, and never downloads.
        random = state.random or not state.present or state.problem is not None
        if random:
            self.report("no SAM weights on this machine (see `nnsam weights`): the SAM branch gets RANDOM weights")
            self.environment["NNSAM_WEIGHTS"] = "random"
        return random

    def _nnunet_folders(self, name: str) -> dict[str, str]:
        folders = {key: self.folder / name / key for key in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        workers = str(max(1, min(4, (os.cpu_count() or 1) - 1)))
        return {
            **{key: str(path) for key, path in folders.items()},
            "nnUNet_def_n_proc": workers,
            "nnUNet_n_proc_DA": workers,
            "NNSAM_OFFLINE": "1",
        }

    def _nnunet(self, command: str, *arguments: str | Path) -> None:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            Path(self.environment[name]).mkdir(parents=True, exist_ok=True)
        try:
            run_nnunet(command, arguments, environment=self.environment, log=self.log)
        except NnsamError as error:
            raise type(error)(f"{error} in {self.folder}") from error

    def _predict(self, model: list[str], images: Path, output: Path) -> None:
        options = ["-device", self.device, "-npp", "0", "-nps", "0", "--disable_tta"]
        self._nnunet("nnUNetv2_predict", "-i", images, "-o", output, *model, *options)

    def _draw(self, raw: Path, predictions: Path) -> list[Path]:
        """Draws each test case (fill: prediction, lines: reference)."""
        from nnsam.io.overlay import OverlayCase, write_overlays
        from nnsam.io.reading import read_image, read_labels

        labels = read_json(raw / "dataset.json", "expected nnU-Net's dataset.json")["labels"]
        names = {value: name for name, value in labels.items() if value}
        folder = self.folder / "overlays"
        folder.mkdir()
        paths = []
        for prediction in sorted(predictions.glob("*.png")):
            image = read_image(raw / "imagesTs" / f"{prediction.stem}_0000.png").pixels
            reference = read_labels(raw / "labelsTs" / prediction.name).pixels
            case = OverlayCase(prediction.stem, image, read_labels(prediction).pixels, reference)
            paths.append(folder / prediction.name)
            write_overlays(paths[-1], [case], label_names=names)
        return paths

    @contextmanager
    def _step(self, result: DemoResult, title: str) -> Iterator[None]:
        self.report(title)
        start = time.perf_counter()
        yield
        result.seconds[title] = round(time.perf_counter() - start, 1)


def different_pixels(first: Path, second: Path) -> float:
    """Returns the share of pixels, 0..1, in which the PNG label maps of two folders differ; 1 where one is missing."""
    from nnsam.io.reading import read_labels

    names = sorted(path.name for path in first.glob("*.png"))
    if not names or any(not (second / name).is_file() for name in names):
        return 1.0
    pairs = [(read_labels(first / name).pixels, read_labels(second / name).pixels) for name in names]
    return float(sum((a != b).sum() for a, b in pairs) / sum(a.size for a, _ in pairs))


def write_summary(result: DemoResult) -> Path:
    """Writes the run's figures as JSON into its folder."""
    from nnsam.metrics.summary import summarize

    content = {
        "trainer": result.trainer,
        "random_sam_weights": result.random_weights,
        "share_of_pixels_that_differ_after_export": result.exported_difference,
        "seconds": result.seconds,
        "scores": {
            row.label: {name: value.mean for name, value in row.scores.items()} for row in summarize(result.evaluation)
        },
    }
    path = result.folder / "summary.json"
    write_json(path, content, end="")
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--out", default="nnsam_demo", help="folder to make, absent or empty (%(default)s)")
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="where to train; auto is cuda or cpu (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=4, help="epochs of the training (%(default)s)")
    parser.add_argument("--iterations", type=int, default=60, help="training iterations per epoch (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Runs the demo and prints its table."""
    from rich.console import Console

    from nnsam.cli.evaluate import print_table
    from nnsam.errors import InputError

    if args.epochs < 1 or args.iterations < 1:
        raise InputError(f"--epochs {args.epochs} --iterations {args.iterations}: expected at least 1 each")
    console = Console(highlight=False)
    with console.status("starting") as status:

        def report(line: str) -> None:
            console.print(f"- {line}")
            status.update(line)

        result = Demo(args.out, training_device(args.device), args.epochs, args.iterations, report).run()
    summary = write_summary(result)
    print_table(result.evaluation)
    if result.random_weights:
        console.print("The SAM branch had RANDOM weights: these scores are not nnSAM's.")
    console.print(
        f"The exported model, run without PyTorch, predicts {result.exported_difference:.4%} of the pixels differently."
    )
    console.print(
        f"{sum(result.seconds.values()):.0f} s; overlays in {result.overlays[0].parent}, figures in {summary}"
    )
    return 0
