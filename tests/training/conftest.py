"""A toy data set as nnU-Net preprocesses it, trainers on it, and one short training that many tests look at."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.official_names import checkpoint_tensors
from helpers.plans import make_plans
from helpers.toy import SHA, create, set_up
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnsam import weights
from nnsam.datasets.phantom import write_phantom_dataset
from nnsam.io.finding import image_name
from nnsam.weights import WeightsSource


@pytest.fixture(autouse=True)
def seed():
    """Networks that a test builds are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small gain nothing from threads, and lose much where the processor is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mobile_sam.pt"
    torch.save(checkpoint_tensors(), path)
    return path


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """nnUNet_preprocessed with Dataset901_Toy: five phantoms, run through nnU-Net's preprocessor in this process."""
    base = tmp_path_factory.mktemp("nnunet")
    plans = make_plans(features=4, patch_size=(64, 64))
    raw = write_phantom_dataset(base / "raw" / plans["dataset_name"], n_train=5, n_test=0, size=(64, 64))
    folder = base / "preprocessed" / plans["dataset_name"]
    manager = PlansManager(plans)
    configuration = manager.get_configuration("2d")
    cases = folder / configuration.data_identifier
    cases.mkdir(parents=True)
    dataset = json.loads((raw / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "dataset_fingerprint.json").write_text("{}")
    plans.pop("continue_training")
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    for label in sorted((raw / "labelsTr").iterdir()):
        image = raw / "imagesTr" / image_name(label.stem, ".png")
        DefaultPreprocessor(verbose=False).run_case_save(
            str(cases / label.stem), [str(image)], str(label), manager, configuration, dataset
        )
    return folder.parent


@pytest.fixture
def results(monkeypatch, toy, tmp_path) -> Path:
    """nnU-Net's environment, with an empty nnUNet_results of the test's own, which is returned."""
    set_up(monkeypatch, toy, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def make_trainer(results, toy):
    """Instantiates trainers: make_trainer(name, fold, configuration, plans' entry=...)."""
    return lambda *args, **changes: create(toy, *args, **changes)


@pytest.fixture
def official(monkeypatch, checkpoint_file) -> Path:
    """Pretends that a file with seeded content is the official checkpoint, found in the cache."""
    monkeypatch.setattr(weights, "resolve", lambda: WeightsSource("official", checkpoint_file, SHA))
    return checkpoint_file


@pytest.fixture
def no_weights(monkeypatch) -> None:
    """Fails the test where SAM weights are asked for."""
    monkeypatch.setattr(weights, "resolve", lambda: pytest.fail("weights were resolved"))


@pytest.fixture(scope="session")
def trained(toy, checkpoint_file, tmp_path_factory) -> SimpleNamespace:
    """nnSAMTrainer after two epochs through nnU-Net's own run_training: `trainer`, `folder`, `checkpoint` (the path).

    Not to be changed.
    """
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        set_up(patch, toy, results)
        patch.setattr(weights, "resolve", lambda: WeightsSource("official", checkpoint_file, SHA))
        trainer = create(toy)
        trainer.run_training()
    folder = Path(trainer.output_folder)
    return SimpleNamespace(trainer=trainer, folder=folder, results=results, checkpoint=folder / "checkpoint_final.pth")
