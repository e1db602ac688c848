"""Baselines as models of runs, with a stand-in for their networks."""

import sys
from types import ModuleType

import pytest

from nnsam.errors import NnsamError
from nnsam.fewshot import methods
from nnsam.fewshot.baseline_model import BaselineModel
from nnsam.fewshot.run_key import RunKey
from nnsam.fewshot.run_options import RunOptions

KEY = RunKey("unet", 4, 0)


@pytest.fixture
def baselines(monkeypatch):
    module = ModuleType("nnsam.fewshot.baselines")
    module.trained = False

    def train(experiment, key, options):
        print("step 1")
        module.trained = True

    def predict(experiment, key, options, images, output):
        (output / "case.png").write_text("x")

    module.train, module.predict, module.is_trained = train, predict, lambda experiment, key: module.trained
    monkeypatch.setitem(sys.modules, "nnsam.fewshot.baselines", module)
    monkeypatch.setattr(methods, "find_spec", lambda name: object())
    return module


def test_steps(baselines, tmp_path):
    lines = []
    model = BaselineModel(tmp_path, KEY, tmp_path / "log.txt", lines.append)
    assert not model.is_trained
    model.check_new()
    model.train(RunOptions())
    assert model.is_trained
    model.predict(tmp_path / "images", tmp_path / "out", RunOptions())
    assert (tmp_path / "out" / "case.png").exists()
    assert (tmp_path / "log.txt").read_text() == "step 1\n"
    assert lines == ["nnsam.fewshot.baselines.train unet n4_s0", "nnsam.fewshot.baselines.predict unet n4_s0"]


def test_training_without_a_result(baselines, tmp_path):
    baselines.train = lambda experiment, key, options: None
    with pytest.raises(NnsamError, match="ended without a result"):
        BaselineModel(tmp_path, KEY, tmp_path / "log.txt").train(RunOptions())
