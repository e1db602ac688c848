"""The name of one run in a study: method, number of training cases, seed."""

from dataclasses import dataclass
from pathlib import Path

from nnsam.fewshot.protocol import subset_name

RUNS = "runs"


@dataclass(frozen=True, order=True)
class RunKey:
    """One run.

    Attributes:
        method: its name, see :mod:`nnsam.fewshot.methods`.
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
