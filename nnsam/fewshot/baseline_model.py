"""A baseline of another library as a model of a run; it trains and predicts in this process."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnsam.errors import NnsamError
from nnsam.fewshot.methods import load_baselines
from nnsam.fewshot.run_key import RunKey
from nnsam.fewshot.run_options import RunOptions


class BaselineModel:
    """A network of :mod:`nnsam.fewshot.baselines`; offers what :class:`nnsam.fewshot.nnunet_model.NnunetModel` does.

    Args:
        experiment: the study's folder.
        key: of the run.
        log: file that gets what it prints.
        record: called with a line for each step.
    """

    def __init__(self, experiment: Path, key: RunKey, log: Path, record: Callable[[str], object] = lambda line: None):
        self.experiment, self.key, self.log, self.record = experiment, key, log, record
        self.sam_weights: Any = None
        self._module = load_baselines()

    @property
    def is_trained(self) -> bool:
        """Whether the training is finished."""
        return self._module.is_trained(self.experiment, self.key)

    def check_new(self) -> None:
        """Nothing of a baseline lies outside its run's folder."""

    def train(self, options: RunOptions) -> None:
        """Trains, or goes on where an earlier process was stopped."""
        self.record(f"nnsam.fewshot.baselines.train {self.key}")
        with self._logged():
            self._module.train(self.experiment, self.key, options)
        if not self.is_trained:
            raise NnsamError(f"the training of {self.key} ended without a result; see {self.log.name}")

    def predict(self, images: Path, output: Path, options: RunOptions) -> None:
        """Writes label maps for a folder of images."""
        self.record(f"nnsam.fewshot.baselines.predict {self.key}")
        output.mkdir(parents=True, exist_ok=True)
        with self._logged():
            self._module.predict(self.experiment, self.key, options, images, output)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        with open(self.log, "a", buffering=1, encoding="utf-8") as file, contextlib.redirect_stdout(file):
            yield
