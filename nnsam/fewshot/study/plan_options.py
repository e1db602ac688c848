"""What a study asks of nnU-Net's planning: configuration, planner, and what is set by hand for small budgets."""

import json
import math
import re
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, SetupError
from nnsam.support.files import atomic_file

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


# Lists of the architecture with one entry per stage; decoders have one fewer.
_PER_STAGE = ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage")
_PER_DECODER_STAGE = ("n_conv_per_stage_decoder",)
_SMALLEST_EDGE = 4  # of the bottleneck's feature map, as in nnU-Net's planner


def override(plans: MutableMapping[str, Any], options: PlanOptions) -> None:
    """Sets patch and batch size of the study's configuration in place.

    The network loses the stages that a smaller patch has no room for, by nnU-Net's own rule; it never gets more than
    planned.

    Args:
        plans: content of nnU-Net's plans file.
        options: with the sizes; what is None stays as planned.

    Raises:
        InputError: the patch does not fit the network's strides.
    """
    configuration = plans["configurations"][options.configuration]
    if options.batch_size is not None:
        configuration["batch_size"] = options.batch_size
    if options.patch_size is None:
        return
    _fit_network(configuration["architecture"]["arch_kwargs"], configuration["spacing"], options.patch_size)
    configuration["patch_size"] = list(options.patch_size)


def _fit_network(kwargs: MutableMapping[str, Any], spacing: list[float], patch_size: tuple[int, ...]) -> None:
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    _, strides, kernels, _, _ = get_pool_and_conv_props(spacing, patch_size, _SMALLEST_EDGE, 999999)
    stages = min(len(strides), kwargs["n_stages"])
    kwargs.update(n_stages=stages, strides=list(strides), kernel_sizes=list(kernels))
    for names, length in ((_PER_STAGE, stages), (_PER_DECODER_STAGE, stages - 1)):
        for name in names:
            if name in kwargs:
                kwargs[name] = list(kwargs[name])[:length]
    for axis, side in enumerate(patch_size):
        factor = math.prod(stride[axis] for stride in kwargs["strides"])
        if side % factor:
            raise InputError(
                f"the patch size is {' '.join(map(str, patch_size))}, and the network shrinks axis {axis} to "
                f"1/{factor}; "
                f"choose a multiple of that, e.g. {-(-side // factor) * factor}"
            )
