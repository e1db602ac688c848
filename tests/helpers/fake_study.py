"""A study with a stand-in for nnU-Net: commands of the same names write the same files, quickly, and keep a journal.

The stand-in is a distribution on PYTHONPATH, which child processes find before the real one.
"""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnsam.datasets.phantom import write_phantom_dataset
from nnsam.fewshot.study.prepare import StudyRequest, prepare

_COMMANDS = {
    "nnUNetv2_plan_and_preprocess": "plan",
    "nnUNetv2_preprocess": "preprocess",
    "nnUNetv2_train": "train",
    "nnUNetv2_predict": "predict",
}

_MODULE = """
import json, os, sys, time, zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest


def journal(*words):
    with open(os.environ["FAKE_JOURNAL"], "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

def option(name):
    return sys.argv[sys.argv.index(name) + 1]

def folders():
    number = option("-d")
    raw = next(Path(os.environ["nnUNet_raw"]).glob(f"Dataset{number}_*"))
    made = Path(os.environ["nnUNet_preprocessed"]) / raw.name
    made.mkdir(parents=True, exist_ok=True)
    return raw, made

def plan():
    raw, made = folders()
    journal("plan", raw.name)
    (made / "dataset.json").write_text((raw / "dataset.json").read_text())
    (made / "dataset_fingerprint.json").write_text("{}")
    configuration = {"patch_size": [64, 64], "batch_size": 2, "spacing": [1.0, 1.0]}
    plans = {"dataset_name": raw.name, "plans_name": "nnUNetPlans", "configurations": {"2d": configuration}}
    (made / "nnUNetPlans.json").write_text(json.dumps(plans))

def preprocess():
    raw, made = folders()
    (made / "nnUNetPlans_2d").mkdir(exist_ok=True)
    for path in (raw / "labelsTr").iterdir():
        (made / "nnUNetPlans_2d" / f"{path.stem}.b2nd").write_text("x")

def checkpoint(path, step):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("step", str(step))

def train():
    dataset, configuration, fold = sys.argv[1:4]
    trainer = option("-tr")
    folder = Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}__nnUNetPlans__{configuration}" / f"fold_{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    latest, first = folder / "checkpoint_latest.pth", 0
    if "--c" in sys.argv:
        with zipfile.ZipFile(latest) as file:
            first = int(file.read("step")) + 1
    journal("train", dataset, trainer, "from", first, "pid", os.getpid())
    if os.environ.get("FAKE_CRASH", "-") in trainer:
        print("RuntimeError: the network has exploded")
        sys.exit(1)
    for step in range(first, int(os.environ.get("FAKE_STEPS", 2))):
        time.sleep(float(os.environ.get("FAKE_SLEEP", 0)))
        checkpoint(latest, step)
        journal("step", dataset, trainer, step)
    checkpoint(folder / "checkpoint_final.pth", -1)
    latest.unlink(missing_ok=True)
    print("2030-01-01: Training done.")
    time.sleep(float(os.environ.get("FAKE_VALIDATION", 60)))
    journal("validation", dataset, trainer)

def predict():
    from PIL import Image
    images, output = Path(option("-i")), Path(option("-o"))
    output.mkdir(parents=True, exist_ok=True)
    journal("predict", option("-d"), option("-tr"), images.parent.name)
    time.sleep(float(os.environ.get("FAKE_PREDICT", 0)))
    for path in sorted(images.iterdir()):
        label = path.parent.parent / "labelsTs" / path.name.replace("_0000", "")
        Image.open(label).save(output / label.name)
    for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
        (output / name).write_text("{}")
"""


class FakeStudy:
    """A prepared study of phantoms and the stand-in for nnU-Net.

    Args:
        folder: for everything.
        monkeypatch: pytest's; sets PYTHONPATH and the journal for child processes and this one.
    """

    def __init__(self, folder: Path, monkeypatch):
        raw = write_phantom_dataset(folder / "Dataset001_Phantoms", n_train=6, n_test=2, size=(64, 64))
        self.experiment = folder / "study"
        self.journal_file = folder / "journal.txt"
        prepare(raw, self.experiment, StudyRequest(sizes=(2,), seeds=(0, 1), validation=2, test=2))
        site = folder / "site"
        info = site / "fake_nnunet-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "fake_nnunet.py").write_text(_MODULE)
        lines = [f"{name} = fake_nnunet:{function}" for name, function in _COMMANDS.items()]
        (info / "entry_points.txt").write_text("\n".join(["[console_scripts]", *lines, ""]))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-nnunet\nVersion: 1.0\n")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("FAKE_JOURNAL", str(self.journal_file))
        for name in ("nnUNet_n_proc_DA", "nnUNet_def_n_proc"):
            monkeypatch.delenv(name, raising=False)

    def journal(self, start: str = "") -> list[str]:
        """Lines of what the stand-in did that begin so."""
        lines = self.journal_file.read_text().splitlines() if self.journal_file.exists() else []
        return [line for line in lines if line.startswith(start)]

    def wait_for(self, start: str, count: int = 1, seconds: float = 60) -> list[str]:
        """Waits until the journal has so many lines that begin so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if len(found := self.journal(start)) >= count:
                return found
            time.sleep(0.05)
        raise AssertionError(f"the journal has no {count} lines {start!r}: {self.journal()}")

    def command(self, *arguments: str) -> list[str]:
        """`nnsam fewshot run` with methods that need no weights, and a small budget."""
        methods = ["--methods", "nnUNetTrainer", "nnSAMLevelSetOnlyTrainer"]
        budget = ["--epochs", "1", "--iterations", "2", "--device", "cpu"]
        run = [sys.executable, "-m", "nnsam", "fewshot", "run", str(self.experiment)]
        return [*run, *([] if "--methods" in arguments else methods), *budget, *arguments]

    def record(self, method: str = "nnUNetTrainer", seed: int = 0) -> dict:
        """run.json of a run."""
        return json.loads((self.folder(method, seed) / "run.json").read_text())

    def folder(self, method: str = "nnUNetTrainer", seed: int = 0) -> Path:
        """Folder of a run."""
        return self.experiment / "runs" / method / f"n2_s{seed}"


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds: float = 30) -> bool:
    """Waits for a condition; returns whether it came true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


def let_nnunet_find(patch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """Takes the place of nnU-Net's search for trainers, whose import takes seconds; returns the names asked for."""
    asked: list[str] = []

    def search(name):
        asked.append(name)
        if name in names:
            return object
        raise RuntimeError("Could not find requested nnunet trainer")

    module = SimpleNamespace(recursive_find_trainer_class_by_name=search)
    patch.setitem(sys.modules, "nnunetv2.utilities.find_objects", module)
    return asked
