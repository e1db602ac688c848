"""A planned and preprocessed phantom data set, and nnU-Net's commands as a user runs them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from nnsam.datasets.phantom import write_phantom_dataset

SCRIPTS = Path(sys.executable).parent


@dataclass
class Workplace:
    """nnU-Net's three folders and the variables that point to them."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        folders = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        return {
            **{name: str(self.root / name) for name in folders},
            "nnUNet_def_n_proc": "1",
            "nnUNet_n_proc_DA": "1",
            "NNSAM_HOME": str(self.root / "no_weights_here"),
            "NNSAM_OFFLINE": "1",
            "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
        }

    def path(self, kind: str, *parts: str) -> Path:
        return Path(self.environment[f"nnUNet_{kind}"], *parts)

    def run(self, command: str, *arguments: object, expect: int = 0, **variables: str) -> str:
        """Runs a command of this environment; returns what it printed; fails on another exit code than `expect`."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("nnUNet", "NNSAM"))}
        process = subprocess.run(
            [str(SCRIPTS / command), *map(str, arguments)],
            env={**inherited, **self.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
        output = process.stdout + process.stderr
        assert process.returncode == expect, f"{command} returned {process.returncode}:\n{output[-4000:]}"
        return output

    def train(self, trainer: str, *arguments: object, dataset: int = 1, fold: object = "all", **options) -> str:
        return self.run("nnUNetv2_train", dataset, "2d", fold, "-tr", trainer, "-device", "cpu", *arguments, **options)

    def predict(self, trainer: str, images: Path, output: Path, *arguments: object, dataset: int = 1, folds=("all",)):
        fixed = ("-device", "cpu", "-npp", 0, "-nps", 0)
        model = ("-d", dataset, "-c", "2d", "-tr", trainer, "-f", *folds)
        return self.run("nnUNetv2_predict", *model, "-i", images, "-o", output, *fixed, *arguments)

    def model_folder(self, trainer: str, dataset: str = "Dataset001_Phantom") -> Path:
        return self.path("results", dataset, f"{trainer}__nnUNetPlans__2d")


def make_empty_workplace(root: Path) -> Workplace:
    workplace = Workplace(root)
    for kind in ("raw", "preprocessed", "results"):
        workplace.path(kind).mkdir(parents=True)
    return workplace


def make_workplace(root: Path, **phantom_options) -> Workplace:
    workplace = make_empty_workplace(root)
    write_phantom_dataset(workplace.path("raw", "Dataset001_Phantom"), size=(48, 48), **phantom_options)
    workplace.run("nnUNetv2_plan_and_preprocess", "-d", 1, "-c", "2d", "-np", 1)
    return workplace


@pytest.fixture
def new_workplace(tmp_path_factory):
    """Makes workplaces with phantoms of other kinds."""
    return lambda **options: make_workplace(tmp_path_factory.mktemp("nnunet"), **options)


@pytest.fixture(scope="session")
def new_empty_workplace(tmp_path_factory):
    """Makes workplaces without data."""
    return lambda: make_empty_workplace(tmp_path_factory.mktemp("nnunet"))


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Workplace:
    """5 training and 2 test phantoms with five structures."""
    return make_workplace(tmp_path_factory.mktemp("nnunet"), n_train=5, n_test=2)
