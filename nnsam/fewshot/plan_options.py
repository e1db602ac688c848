"""What a study asks of nnU-Net's planning: configuration, planner, and what is set by hand for small budgets."""

import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from nnsam.data.atomic import atomic_file
from nnsam.errors import InputError, SetupError

FILE = "planning.json"
FORMAT_VERSION = 1
CONFIGURATIONS = {"2d": 2, "3d_fullres": 3}


@dataclass(frozen=True)
class PlanOptions:
    """Options of the planning, the same for all subsets and methods of a study.

    Attributes:
        configuration: "2d" or "3d_fullres".
        planner: nnU-Net's planner, e.g. "ExperimentPlanner" or "nnUNetPlannerResEncM".
        patch_size: in pixels, (H, W) or (D, H, W), instead of the planned one; None keeps it.
        batch_size: instead of the planned one; None keeps it.
    """

    configuration: str = "2d"
    planner: str = "ExperimentPlanner"
    patch_size: tuple[int, ...] | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        axes = CONFIGURATIONS.get(self.configuration)
        if axes is None:
            raise InputError(
                f"the configuration {self.configuration!r} is not supported; expected {' or '.join(CONFIGURATIONS)}"
            )
        if self.patch_size is not None and (len(self.patch_size) != axes or min(self.patch_size) < 8):
            raise InputError(
                f"the patch size is {' '.join(map(str, self.patch_size))}; expected {axes} numbers of at least 8 for "
                f"the configuration {self.configuration}"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"the batch size is {self.batch_size}; expected at least 1")

    @property
    def note(self) -> str:
        """One line for the report."""
        changes = [] if self.patch_size is None else [f"patch set to {' x '.join(map(str, self.patch_size))}"]
        changes += [] if self.batch_size is None else [f"batch size set to {self.batch_size}"]
        return ", ".join([f"configuration {self.configuration}, planner {self.planner}", *changes])

    def write(self, folder: str | Path, protocol_digest: str) -> None:
        """Writes the options into a study's folder, for the protocol with the given digest."""
        content = {"format_version": FORMAT_VERSION, **asdict(self), "note": self.note, "protocol": protocol_digest}
        with atomic_file(Path(folder) / FILE) as draft:
            draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path, protocol_digest: str) -> "PlanOptions":
        """Reads the options of a study.

        Raises:
            InputError: none there, damaged ones, or those of another protocol.
        """
        path = Path(folder) / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format_version"] > FORMAT_VERSION:
                raise InputError(f"{path} was written by a newer nnsam; update nnsam")
            patch = content["patch_size"]
            options = cls(
                content["configuration"],
                content["planner"],
                None if patch is None else tuple(int(side) for side in patch),
                content["batch_size"],
            )
            fits = content["protocol"] == protocol_digest and content["note"] == options.note
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} cannot be read ({error!r}); run `nnsam fewshot prepare` again") from None
        if not fits:
            raise InputError(f"{path} was edited or is another study's; restore it, or prepare a new study")
        return options


def check_planner(name: str) -> None:
    """Raises InputError if nnU-Net has no planner of that name, without importing it (PyTorch takes seconds)."""
    known = _planners()
    if name not in known:
        raise InputError(f"nnU-Net has no planner {name!r}; it has {', '.join(sorted(known))}")


@cache
def _planners() -> frozenset[str]:
    spec = find_spec("nnunetv2")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError("nnunetv2 is not installed in this Python environment; install it")
    folder = Path(next(iter(spec.submodule_search_locations)), "experiment_planning", "experiment_planners")
    sources = (path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    return frozenset(name for text in sources for name in re.findall(r"^class (\w*Planner\w*)", text, re.MULTILINE))
