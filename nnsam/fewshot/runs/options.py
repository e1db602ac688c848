"""What the user can choose about how runs are made."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from nnsam.errors import InputError

# nnU-Net's own.
DEFAULT_EPOCHS = 1000
DEFAULT_ITERATIONS = 250


@dataclass(frozen=True)
class Budget:
    """A training's length; one iteration sees one batch, whose size nnU-Net's plan gives.

    Attributes:
        epochs: at least 1.
        iterations: training iterations per epoch, at least 1.
    """

    epochs: int = DEFAULT_EPOCHS
    iterations: int = DEFAULT_ITERATIONS

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("iterations", self.iterations)):
            if value < 1:
                raise InputError(f"the number of {name} is {value}; expected at least 1")

    @property
    def suffix(self) -> str:
        """The part of a trainer's name that sets it, e.g. "_4epochs_40iters"; empty for nnU-Net's own budget."""
        if self == Budget():
            return ""
        return f"_{self.epochs}epochs_{self.iterations}iters"


DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class StudyRunOptions:
    """Options of all runs of one call.

    Attributes:
        budget: of the training.
        device: one of `DEVICES`.
        tta: predict with mirroring, as nnU-Net does by default.
        score_validation: predict and score the validation cases, too.
        nnunet_validation: let nnU-Net validate after the training, which no score here needs.
        retry_failed: try failed runs again.
        threads: processors per run; 0 for all that the process may use.
        cores: numbers of the processors to stay on; empty: wherever the system likes.
    """

    budget: Budget = field(default_factory=Budget)
    device: str = "cpu"
    tta: bool = False
    score_validation: bool = False
    nnunet_validation: bool = False
    retry_failed: bool = False
    threads: int = 0
    cores: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InputError(f"the device {self.device!r} is unknown; expected {', '.join(DEVICES)}")
        if self.threads < 0:
            raise InputError(f"the number of threads is {self.threads}; expected at least 1, or 0 for all")

    def to_json(self) -> str:
        """The options as text, for a process of its own."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "StudyRunOptions":
        """Reads what :meth:`to_json` wrote."""
        content: dict[str, Any] = json.loads(text)
        return cls(**{**content, "budget": Budget(**content["budget"]), "cores": tuple(content["cores"])})
