"""run.json: how far a run is, and all that is needed to repeat it. Written atomically at each step."""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnsam.errors import InputError
from nnsam.fewshot.study.protocol import Protocol, subset_name
from nnsam.support.files import load_json, write_json
from nnsam.support.text import clipped

RUNS = "runs"


@dataclass(frozen=True, order=True)
class RunKey:
    """One run.

    Attributes:
        method: its name, see :mod:`nnsam.fewshot.runs.methods`.
        size: number of training cases.
        seed: of the draw of these cases and of the training.

    Example:
        >>> str(RunKey("nnUNetTrainer", 4, 0))
        'nnUNetTrainer n4_s0'
    """

    method: str
    size: int
    seed: int

    def __str__(self) -> str:
        return f"{self.method} {subset_name(self.size, self.seed)}"

    def folder(self, experiment: str | Path) -> Path:
        """Folder of the run in a study."""
        return Path(experiment) / RUNS / self.method / subset_name(self.size, self.seed)

    def lock(self, experiment: str | Path) -> Path:
        """File that whoever works on the run holds locked; outside its folder, which the user may remove."""
        return Path(experiment) / RUNS / ".locks" / f"{self.method}_{subset_name(self.size, self.seed)}.lock"


FILE = "run.json"
FORMAT_VERSION = 1
PENDING, PREPARING, TRAINING, PREDICTING, SCORING, DONE, FAILED = STATES = (
    "pending",
    "preparing",
    "training",
    "predicting",
    "scoring",
    "done",
    "failed",
)


@dataclass
class RunState:
    """The record of a run.

    Attributes:
        key: which run.
        protocol_digest: of the study.
        budget: {"epochs", "iterations"}; None where the trainer decides.
        prediction: {"tta"}: how label maps are made.
        state: one of `STATES`.
        attempts: how often it was started.
        started: of the first attempt, UTC, ISO 8601.
        changed: seconds since 1970 at the last change of `state`.
        seconds: step -> seconds, of all attempts.
        commands: what was called, paths relative to the study's folder.
        trainer: the name that nnUNetv2_train got.
        note: of the method.
        versions: package -> version, of the last attempt.
        machine: of the last attempt.
        sam_weights: what nnSAM's trainer recorded of the encoder's weights; None without an encoder.
        results: file of scores, or folder of label maps -> SHA-256.
        error: one sentence; empty unless it failed.
    """

    key: RunKey
    protocol_digest: str
    budget: dict[str, int | None]
    prediction: dict[str, bool]
    state: str = PENDING
    attempts: int = 0
    started: str = ""
    changed: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    trainer: str = ""
    note: str = ""
    versions: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    sam_weights: Any = None
    results: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What runs of one study must agree in, in words."""
        return {
            "protocol": self.protocol_digest[:12],
            **self.budget,
            **{name: "on" if value else "off" for name, value in self.prediction.items()},
        }

    def write(self, experiment: str | Path) -> None:
        """Writes the record into the run's folder of a study."""
        content = self._content()
        write_json(self.key.folder(experiment) / FILE, {**content, "digest": _digest(content)})

    def enter(self, state: str, experiment: str | Path, error: str = "") -> None:
        """Changes the state and writes the record."""
        self.state, self.error, self.changed = state, error, round(time.time(), 1)
        self.write(experiment)

    @classmethod
    def read(cls, experiment: str | Path, key: RunKey) -> "RunState | None":
        """Reads the record of a run; None where the run was never started.

        Raises:
            InputError: a damaged or edited file, or one of a newer version.
        """
        path = key.folder(experiment) / FILE
        try:
            content = load_json(path)
            version, digest = content.pop("format_version"), content.pop("digest")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({clipped(repr(error))}); restore it, or {REMOVE}") from None
        if version > FORMAT_VERSION:
            raise InputError(f"{path} has format {version}, and this nnsam reads up to {FORMAT_VERSION}; update nnsam")
        try:
            state = cls(**{**content, "key": RunKey(**content["key"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}); restore it, or {REMOVE}") from None
        if digest != _digest(state._content()) or state.key != key or state.state not in STATES:
            raise InputError(f"{path} was edited or belongs to another run; restore it, or {REMOVE}")
        return state

    def check_same(self, wanted: "RunState", path: Path) -> None:
        """Raises InputError where this run is of another study, budget or prediction than the wanted one."""
        found, expected = self.identity, wanted.identity
        different = [name for name in expected if found.get(name) != expected[name]]
        if different:
            texts = [", ".join(f"{name} {values.get(name)}" for name in different) for values in (found, expected)]
            raise InputError(
                f"{path} holds a run with {texts[0]}, and {texts[1]} was asked for; ask for the same, or use another "
                "study folder"
            )

    def _content(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "key"}
        key = {"method": self.key.method, "size": self.key.size, "seed": self.key.seed}
        return {"format_version": FORMAT_VERSION, "key": key, **fields}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


REMOVE = "remove the run's folder and its model folder in nnunet/nnUNet_results, to make the run again"


def find_runs(experiment: str | Path, protocol: Protocol) -> dict[RunKey, RunState]:
    """Records of all runs of a study that were started, by method, size and seed.

    Raises:
        InputError: a damaged or edited record, or a folder that is no subset of the study.
    """
    subsets = {subset_name(*key): key for key in protocol.subsets}
    found = {}
    for path in Path(experiment).joinpath(RUNS).glob(f"*/*/{FILE}"):
        if path.parent.name not in subsets:
            raise InputError(
                f"{path.parent} is no subset of the study, which has {', '.join(subsets)}; remove the folder or "
                "restore the protocol"
            )
        key = RunKey(path.parent.parent.name, *subsets[path.parent.name])
        state = RunState.read(experiment, key)
        if state is not None:  # else removed in this moment
            found[key] = state
    return dict(sorted(found.items()))
