r"""Trains a box-prompt model on labelled images, from the files to a scored bundle, in one command.

DATA is a folder with the subfolders images and masks (or labels), a folder of images with --masks MASKS beside it, or a
raw nnU-Net data set (DatasetXXX_Name). Images and masks are matched by name, see `nnsam convert images`. The steps are
those that can be typed by themselves: convert, plan-box, nnUNetv2_preprocess, nnUNetv2_train, export; then the bundle
is scored on the fold that was not trained on, each object prompted by its tight box.

--minutes is the time for training alone; the learning rate falls to 0 within it, so that more time is a new training,
not the rest of this one. A step takes its time from a short trial on this machine. Everything goes to a work folder
beside the bundle, with nnU-Net's folders in it. Interrupted, the same command goes on where it was; training, from its
last checkpoint.

Example:
  nnsam box-train lesions -o lesion_bundle --minutes 30
  nnsam box-train photos --masks masks -o bundle --labels "1=disc,2=cup" --patient "(P\d+)"
  nnsam box-train $nnUNet_raw/Dataset201_Boxes -o bundle --model full --device cuda --minutes 600
  nnsam segment lesion_bundle -i new.jpg --box 120,80,410,330 -o mask.png --overlay
"""

import argparse
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnsam.cli.common import add_voxel_limit
from nnsam.cli.convert import add_matching_arguments
from nnsam.errors import InputError, NnsamError
from nnsam.support.device import DEVICES, training_device

_DATASET = "Dataset501_Boxes"
_PLANS = "nnSAMBoxPlans"
_STATE = "state.json"
_MASK_FOLDERS = ("masks", "labels", "mask", "label", "annotations", "gt")
_ITERATIONS, _TRIAL_ITERATIONS = 100, 20
# The training itself has _FEWEST_EPOCHS at least, and so another name.
_TRIAL = f"nnSAMBoxFastTrainer_1epochs_{_TRIAL_ITERATIONS}iters_seed0"
# nnU-Net checks on validation patches after each epoch, a fifth as many as it trains on, without gradients.
_FEWEST_EPOCHS = 2
# Few minutes on a slow machine make epochs shorter.
_FEWEST_ITERATIONS = 5
_LAST_WORDS = "run the same command to go on"


@dataclass(frozen=True)
class BoxTrainingOptions:
    """What is trained on what.

    Attributes:
        data: see the module.
        bundle: folder to write.
        masks: folder of masks, if `data` is a folder of images.
        model: "small" or "full", see `nnsam plan-box`.
        minutes: for training.
        device: "cpu", "cuda" or "mps".
        labels: value in the masks -> name.
        mask_suffix: see `nnsam.datasets.images.convert_images`, as the next two.
        patient: regular expression.
        skip_unmatched: leave out what has no partner.
    """

    data: Path
    bundle: Path
    masks: Path | None = None
    model: str = "small"
    minutes: float = 60
    device: str = "cpu"
    labels: dict[int, str] | None = None
    mask_suffix: str | None = None
    patient: str | None = None
    skip_unmatched: bool = False

    def as_record(self) -> dict[str, Any]:
        """What must stay the same when a run goes on, for JSON."""
        kept = {key: value for key, value in vars(self).items() if key != "bundle"}
        kept["labels"] = None if self.labels is None else {str(key): name for key, name in self.labels.items()}
        return {key: str(value.absolute()) if isinstance(value, Path) else value for key, value in kept.items()}


@dataclass
class BoxTraining:
    """A run in its work folder.

    Attributes:
        options: of the run.
        work: its folder.
        report: receives one line when there is something to tell.
    """

    options: BoxTrainingOptions
    work: Path
    report: Callable[[str], object] = print
    state: dict[str, Any] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Does all steps that are not done yet.

        Returns:
            See `score_bundle`.

        Raises:
            InputError: unusable data, an output that exists, or a work folder of another run.
            NnsamError: a step failed; its output is in log.txt of the work folder.
        """
        self._open()
        self._step("convert", self._convert)
        self._step("plan", self._plan)
        self._step("preprocess", self._preprocess)
        self._step("measure", self._measure)
        self._remove_trial()
        self._step("train", self._train)
        self._step("export", self._export)
        self._step("score", self._score)
        return dict(self.state["scores"])

    # ---- the record of what is done

    def _open(self) -> None:
        from nnsam.datasets.patients import patient_ids
        from nnsam.support.files import read_json

        patient_ids({}, self.options.patient)  # refuses what is no regular expression, before anything is made
        record = {**self.options.as_record(), "files": _fingerprint(self.options.data, self.options.masks)}
        path = self.work / _STATE
        if path.is_file():
            self.state = read_json(path, f"remove {self.work} to begin anew.")
            if not self.state["done"]:  # nothing that other data or options could spoil
                self.state["options"] = record
            changed = [key for key in record if self.state["options"].get(key) != record[key]]
            if changed:
                before, now = (options.get(changed[0]) for options in (self.state["options"], record))
                what = "other images or masks" if changed[0] == "files" else f"{changed[0]} {before}, now {now}"
                raise InputError(f"{self.work} was begun with {what}; give another --work, or remove it to begin anew.")
            if self.state["done"]:
                self.report(f"going on in {self.work}: {', '.join(self.state['done'])} done before")
            return
        if self.work.exists() and (not self.work.is_dir() or any(self.work.iterdir())):
            raise InputError(f"{self.work} exists and is no work folder of this command; give another one with --work.")
        if not _is_raw(self.options.data):
            _folders(self.options.data, self.options.masks)
        if self.options.bundle.exists():
            raise InputError(f"{self.options.bundle} exists; give another output, or remove it.")
        self.state = {"options": record, "done": []}
        self._save()

    def _save(self) -> None:
        from nnsam.support.files import write_json

        write_json(self.work / _STATE, self.state)

    def _step(self, name: str, action: Callable[[], None]) -> None:
        if name in self.state["done"]:
            return
        action()
        self.state["done"].append(name)
        self._save()

    # ---- steps

    @property
    def _raw(self) -> Path:
        """The raw data set: the user's own, or the converted one."""
        return (
            self.options.data.absolute()
            if _is_raw(self.options.data)
            else self.work.absolute() / "nnUNet_raw" / _DATASET
        )

    @property
    def _environment(self) -> dict[str, str]:
        workers = str(max(1, min(4, (os.cpu_count() or 1) - 1)))
        work = self.work.absolute()
        return {
            "nnUNet_raw": str(self._raw.parent),
            "nnUNet_preprocessed": str(work / "nnUNet_preprocessed"),
            "nnUNet_results": str(work / "nnUNet_results"),
            "nnUNet_def_n_proc": workers,
            "nnUNet_n_proc_DA": workers,
            "NNSAM_OFFLINE": "1",
        }

    def _run(self, command: str, *arguments: str | Path) -> None:
        from nnsam.nnunet.commands import run_nnunet

        for name in ("nnUNet_preprocessed", "nnUNet_results"):
            Path(self._environment[name]).mkdir(parents=True, exist_ok=True)
        try:
            run_nnunet(command, arguments, environment=self._environment, log=self.work / "log.txt")
        except NnsamError as error:
            raise type(error)(f"{error} in {self.work}") from error

    def _convert(self) -> None:
        from nnsam.datasets.images import convert_images

        options = self.options
        if _is_raw(options.data):
            self.report(f"data: {options.data}, a raw nnU-Net data set")
            return
        images, masks = _folders(options.data, options.masks)
        self.report(f"convert {images} and {masks}")
        result = convert_images(
            images,
            masks,
            self._raw,
            label_names=options.labels,
            mask_suffix=options.mask_suffix,
            patient_pattern=options.patient,
            skip_unmatched=options.skip_unmatched,
        )
        for note in result.notes:
            self.report(f"note: {note}")
        names = ", ".join(list(result.labels)[1:])
        self.report(f"{len(result.cases)} cases of {result.patients} patients; {names}")

    def _plan(self) -> None:
        self.report(f"plan the {self.options.model} model (nnsam plan-box)")
        self._run("nnsam", "plan-box", "-d", self._raw.name, "--model", self.options.model, "--prompt", "ellipse")

    def _preprocess(self) -> None:
        from nnsam.datasets.patients import FOLDS
        from nnsam.nnunet.raw_dataset import read_source

        self.report("preprocess (nnUNetv2_preprocess)")
        number, workers = self._raw.name[7:10], self._environment["nnUNet_def_n_proc"]
        self._run("nnUNetv2_preprocess", "-d", number, "-plans_name", _PLANS, "-c", "2d", "-np", workers)
        # nnU-Net makes five folds of its own where the data set brings none, which takes as many cases.
        has_folds = self._splits().is_file() or len(read_source(self._raw).training) >= FOLDS
        self.state["fold"] = "0" if has_folds else "all"

    def _splits(self) -> Path:
        own = Path(self._environment["nnUNet_preprocessed"], self._raw.name, "splits_final.json")
        return own if own.is_file() else self._raw / "splits_final.json"

    def _held_out(self) -> list[str]:
        """Cases that are not trained on; none where there are no folds."""
        from nnsam.support.files import read_json

        if self.state["fold"] == "all":
            return []
        return list(read_json(self._splits(), "expected nnU-Net's folds")[0]["val"])

    def _measure(self) -> None:
        """Finds out by a short trial how many epochs the minutes hold."""
        self.report("measure the time of a training step")
        self._run_training(_TRIAL)
        seconds = _epoch_seconds(self._output(_TRIAL))
        per_step = seconds[-1] / _TRIAL_ITERATIONS
        steps = self.options.minutes * 60 / per_step
        iterations = min(_ITERATIONS, max(_FEWEST_ITERATIONS, int(steps / _FEWEST_EPOCHS)))
        epochs = max(_FEWEST_EPOCHS, round(steps / iterations))
        self.state["trainer"] = f"nnSAMBoxFastTrainer_{epochs}epochs_{iterations}iters_seed0"
        minutes = epochs * iterations * per_step / 60
        self.report(
            f"{per_step:.2f} s per step of a batch: {epochs} epochs of {iterations} steps, about "
            f"{minutes:.0f} min; export and scores take some more"
        )

    def _remove_trial(self) -> None:
        """Leaves one model in the results; also after a run that was killed here, or of an earlier version."""
        shutil.rmtree(self._output(_TRIAL).parent, ignore_errors=True)

    def _run_training(self, trainer: str, *options: str) -> None:
        fold, device = self.state["fold"], self.options.device
        self._run(
            "nnUNetv2_train", self._raw.name, "2d", fold, "-p", _PLANS, "-tr", trainer, "-device", device, *options
        )

    def _output(self, trainer: str) -> Path:
        results = Path(self._environment["nnUNet_results"], self._raw.name, f"{trainer}__{_PLANS}__2d")
        return results / f"fold_{self.state['fold']}"

    def _train(self) -> None:
        trainer = self.state["trainer"]
        output = self._output(trainer)
        goes_on = any(output.glob("checkpoint_*.pth"))
        more = ", going on" if goes_on else ""
        self.report(f"train {trainer} on the {self.options.device}, fold {self.state['fold']}{more}")
        epochs = int(re.findall(r"_(\d+)epochs", trainer)[0])
        with _watched(output, epochs, self.report):
            self._run_training(trainer, *(["--c"] if goes_on else []))

    def last_checkpoint(self) -> str:
        """What a training that was interrupted goes on from, after a comma; empty at other steps."""
        if "trainer" not in self.state or "train" in self.state["done"]:
            return ""
        found = sorted(path.name for path in self._output(self.state["trainer"]).glob("checkpoint_*.pth"))
        latest = next((name for name in reversed(found)), None)
        return ", training from its beginning" if latest is None else f", training from {latest}"

    def _export(self) -> None:
        self.report(f"export to {self.options.bundle} (nnsam export)")
        fold = self.state["fold"]
        model = self._output(self.state["trainer"]).parent
        self._run("nnsam", "export", model, "-o", self.options.bundle.absolute(), "--folds", fold, "--overwrite")

    def _score(self) -> None:
        from nnsam.support.files import write_json

        held_out = self._held_out()
        self.report("score the bundle " + ("on the cases that were held out" if held_out else "on its training cases"))
        scores = score_bundle(self.options.bundle, self._raw, held_out)
        self.state["scores"] = scores
        write_json(self.work / "scores.json", scores)


def score_bundle(bundle: Path, raw: Path, cases: Sequence[str] = ()) -> dict[str, Any]:
    """Segments the objects of cases of a raw data set from their tight boxes, one box per label and image.

    Args:
        bundle: of a box model.
        raw: the data set.
        cases: names; none for all that it trains on, which `seen` then tells.

    Returns:
        cases: number of those scored; seen: whether they were trained on; DSC and ellipse: label -> mean over images,
        of the model and of the ellipse inscribed in the box, which needs no model; mean and mean_ellipse: over labels.
    """
    import nnsam
    from nnsam.bench.box.accuracy import inscribed_ellipse
    from nnsam.metrics import dice
    from nnsam.metrics.classes import read_classes
    from nnsam.nnunet.raw_dataset import read_source
    from nnsam.prompts.box_files import boxes_of_labels

    predictor = nnsam.load(bundle, kind="box")
    assert isinstance(predictor, nnsam.BoxPredictor)
    names = {values[0]: name for name, values in read_classes(raw / "dataset.json").values.items()}
    found: dict[str, dict[str, list[float]]] = {"DSC": {}, "ellipse": {}}
    chosen = [case for case in read_source(raw).training.values() if not cases or case.name in set(cases)]
    for case in chosen:
        image, labels = _read_case(case)
        if not labels.pixels.any():
            continue
        prompts = boxes_of_labels(labels.pixels, str(case.label))
        predictor.set_image(image.pixels, spacing=image.spacing, dimensions=image.dimensions)
        prediction = predictor.predict_inside(prompts.boxes)
        for index, (box, label) in enumerate(zip(prompts.boxes, prompts.labels, strict=True)):
            truth, name = labels.pixels == label, names.get(label, f"label_{label}")
            ellipse = inscribed_ellipse(box, truth.shape)
            for key, guess in (("DSC", prediction.full_mask(index)), ("ellipse", ellipse)):
                found[key].setdefault(name, []).append(dice(guess, truth))
    means = {key: {name: sum(scores) / len(scores) for name, scores in of.items()} for key, of in found.items()}
    total = {key: sum(of.values()) / len(of) if of else float("nan") for key, of in means.items()}
    return {
        "cases": len(chosen),
        "seen": not cases,
        **means,
        "mean": total["DSC"],
        "mean_ellipse": total["ellipse"],
    }


def _read_case(case: Any) -> tuple[Any, Any]:
    """Image, with colours of several files joined, and label map of a case."""
    import numpy as np

    from nnsam.io.reading import read_image, read_labels

    image = read_image(case.images[0])
    if len(case.images) == 3:
        image = image.with_pixels(np.stack([read_image(path).pixels for path in case.images], axis=-1))
    return image, read_labels(case.label)


def _is_raw(data: Path) -> bool:
    return (data / "dataset.json").is_file() and (data / "imagesTr").is_dir()


def _folders(data: Path, masks: Path | None) -> tuple[Path, Path]:
    if masks is not None:
        return data, masks
    images = data / "images"
    found = next((data / name for name in _MASK_FOLDERS if (data / name).is_dir()), None)
    if images.is_dir() and found is not None:
        return images, found
    raise InputError(
        f"{data} holds neither the folders images and masks nor a raw nnU-Net data set; give it as a folder of images "
        "with --masks MASKS."
    )


def _fingerprint(data: Path, masks: Path | None) -> str:
    """Changes when files come, go, or are written again."""
    if not data.is_dir():
        raise InputError(f"{data} is no folder; expected one of images, or a raw nnU-Net data set.")
    total = hashlib.sha256()
    for folder in filter(None, (data, masks)):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                status = path.stat()
                total.update(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return total.hexdigest()


_EPOCH_TIME = re.compile(r"Epoch time: ([\d.]+) s")


def _epoch_seconds(output: Path) -> list[float]:
    """Seconds of each epoch, from nnU-Net's logs in a fold's folder."""
    texts = [log.read_text(encoding="utf-8", errors="replace") for log in sorted(output.glob("training_log_*.txt"))]
    seconds = [float(number) for text in texts for number in _EPOCH_TIME.findall(text)]
    if not seconds:
        raise NnsamError(f"{output} holds no times of epochs in nnU-Net's log; did the training start?")
    return seconds


@contextmanager
def _watched(output: Path, epochs: int, report: Callable[[str], object]) -> Iterator[None]:
    """Reports about every tenth of the epochs how much time is left, from nnU-Net's log."""
    ended = threading.Event()

    def watch() -> None:
        told = 0
        while not ended.wait(2):
            try:
                seconds = _epoch_seconds(output)
            except NnsamError:
                continue
            done = len(seconds)
            if done - told >= max(1, epochs // 10) and done < epochs:
                recent = seconds[-5:]
                left = (epochs - done) * sum(recent) / len(recent) / 60
                report(f"  {done} of {epochs} epochs" + (f", about {left:.0f} min left" if left >= 1 else ""))
                told = done

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# ---- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options."""
    parser.add_argument("data", metavar="DATA", type=Path, help="folder, see above")
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE", type=Path, help="folder to make")
    parser.add_argument("--masks", metavar="MASKS", type=Path, help="folder of masks, if DATA holds images only")
    parser.add_argument("--model", choices=("small", "full"), default="small", help="size of the network (%(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=60, metavar="N", help="time for training alone (default: %(default)g)"
    )
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="where to train; auto is cuda or cpu (default: %(default)s)"
    )
    parser.add_argument("--work", metavar="FOLDER", type=Path, help="work folder (default: BUNDLE_work)")
    add_matching_arguments(parser)
    add_voxel_limit(parser)


def run(args: argparse.Namespace) -> int:
    """Trains, and prints the scores."""
    if not args.minutes > 0:
        raise InputError(f"--minutes is {args.minutes:g}; expected a number above 0.")
    options = BoxTrainingOptions(
        data=args.data,
        bundle=args.output,
        masks=args.masks,
        model=args.model,
        minutes=args.minutes,
        device=training_device(args.device),
        labels=args.labels,
        mask_suffix=args.mask_suffix,
        patient=args.patient,
        skip_unmatched=args.skip_unmatched,
    )
    work = args.work or args.output.absolute().with_name(f"{args.output.absolute().name}_work")
    start = time.monotonic()

    def report(line: str) -> None:
        print(f"[{(time.monotonic() - start) / 60:5.1f} min] {line}", flush=True)

    training = BoxTraining(options, work, report)
    try:
        scores = training.run()
    except KeyboardInterrupt:
        report(f"interrupted; {_LAST_WORDS}{training.last_checkpoint()}")
        raise
    for name, value in scores["DSC"].items():
        print(f"{name}: DSC {value:.3f} (the ellipse in the box: {scores['ellipse'][name]:.3f})")
    seen = ", on which it was trained: the scores are too good" if scores["seen"] else " that were held out"
    print(f"mean DSC {scores['mean']:.3f} over {scores['cases']} cases{seen}; tight boxes.")
    print(f"{args.output}: nnsam segment {args.output} -i IMAGE --box x0,y0,x1,y1 -o mask.png --overlay")
    return 0
