"""Plans and preprocesses one training subset with nnU-Net's commands, from its training cases only.

nnU-Net plans a data set from all its cases, validation included, and knows no other way: spacing, normalisation (of
CT), patch and batch size of a few-shot run would come from cases that the run must not have. Here nnU-Net plans a
temporary data set of the training cases alone, and preprocesses training and validation cases with these plans.

planning.json says what the study asks of it: configuration, planner, and what is set by hand for small budgets.
"""

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from nnsam.errors import InputError, SetupError
from nnsam.fewshot.study import layout
from nnsam.fewshot.study.cases import read_cases, write_raw_dataset
from nnsam.fewshot.study.protocol import Protocol
from nnsam.nnunet.commands import run_nnunet
from nnsam.support.files import load_json, read_json, sha256_of_file, write_json
from nnsam.support.machine import package_version
from nnsam.support.text import clipped, shown

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
                f"the configuration {shown(self.configuration)} is not supported; expected "
                f"{' or '.join(CONFIGURATIONS)}"
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
        write_json(Path(folder) / FILE, content)

    @classmethod
    def read(cls, folder: str | Path, protocol_digest: str) -> "PlanOptions":
        """Reads the options of a study.

        Raises:
            InputError: none there, damaged ones, or those of another protocol.
        """
        path = Path(folder) / FILE
        try:
            content = load_json(path)
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
            raise InputError(
                f"{path} cannot be read ({clipped(repr(error))}); run `nnsam fewshot prepare` again"
            ) from None
        if not fits:
            raise InputError(f"{path} was edited or is another study's; restore it, or prepare a new study")
        return options


def check_planner(name: str) -> None:
    """Raises InputError if nnU-Net has no planner of that name, without importing it (PyTorch takes seconds)."""
    known = _planners()
    if name not in known:
        raise InputError(f"nnU-Net has no planner {shown(name)}; it has {', '.join(sorted(known))}")


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


MARKER = "nnsam_fewshot.json"
_FILES = ("dataset.json", "dataset_fingerprint.json", f"{layout.PLANS}.json", "splits_final.json")


@dataclass(frozen=True)
class PlannedSubset:
    """A subset that can be trained on.

    Attributes:
        folder: its folder in nnUNet_preprocessed.
        commands: nnU-Net's commands that made it.
        is_new: False where it had been made before.
    """

    folder: Path
    commands: tuple[str, ...]
    is_new: bool


def plan_subset(experiment: str | Path, size: int, seed: int, processes: int = 1) -> PlannedSubset:
    """Makes a subset's folder in nnUNet_preprocessed: fingerprint, plans, split and preprocessed cases.

    The folder appears complete or not at all, whatever ends the process (nnU-Net's commands end with it); what is there
    is checked and kept. Several processes may call it at once. What nnU-Net prints goes to nnunet/logs.

    Args:
        experiment: the study's folder.
        size: number of training cases.
        seed: of the draw.
        processes: that nnU-Net uses.

    Raises:
        InputError: no such subset, or files of it were edited.
        NnsamError: nnU-Net failed.
    """
    experiment = Path(experiment).absolute()
    protocol = Protocol.read(experiment)
    options = PlanOptions.read(experiment, protocol.digest)
    name = layout.dataset_name(protocol, size, seed)
    folder = layout.preprocessed_folder(experiment) / name
    with _alone(experiment, name):
        if folder.exists():
            return PlannedSubset(folder, _check_planned(folder, protocol, options), False)
        with _temporary_folder(layout.preprocessed_folder(experiment), name) as draft:
            planning = _Planning(experiment, protocol, options, name, draft, processes)
            commands = planning.run((size, seed))
            os.replace(draft / "preprocessed" / name, folder)
    return PlannedSubset(folder, commands, True)


class _Planning:
    """One planning in a temporary folder."""

    def __init__(
        self, experiment: Path, protocol: Protocol, options: PlanOptions, name: str, draft: Path, processes: int
    ):
        self.experiment, self.protocol, self.options = experiment, protocol, options
        self.name, self.draft, self.processes = name, draft, processes
        self.commands: list[str] = []

    def run(self, key: tuple[int, int]) -> tuple[str, ...]:
        """Plans, preprocesses, and returns nnU-Net's commands."""
        raw = layout.raw_folder(self.experiment)
        training, validation = self.protocol.subsets[key], self.protocol.validation
        names = {*training, *validation}
        # Checked first: what nnU-Net would read was possibly edited since `prepare`.
        cases = self._read(raw / self.name, names)
        dataset = read_json(raw / self.name / "dataset.json", "restore it, or prepare the study again")
        if self.protocol.planning == "all":
            pool = set(self.protocol.hashes) - set(self.protocol.test)
            planned_from = self._read(raw / layout.pool_dataset(), pool)
        else:
            planned_from = {case: cases[case] for case in training}
        write_raw_dataset(self.draft / "raw" / self.name, planned_from, dataset)
        number, processes = self.name[7:10], str(self.processes)
        options = ["--no_pp", "-npfp", processes, "-pl", self.options.planner, "-overwrite_plans_name", layout.PLANS]
        self._nnunet("nnUNetv2_plan_and_preprocess", self.draft / "raw", "-d", number, *options)
        folder = self.draft / "preprocessed" / self.name
        self._finish_plans(folder)
        split = [{"train": list(training), "val": list(validation)}]
        write_json(folder / "splits_final.json", split)
        # numTraining now counts the validation cases too, as in every nnU-Net data set.
        shutil.copyfile(raw / self.name / "dataset.json", folder / "dataset.json")
        options = ["-plans_name", layout.PLANS, "-c", self.options.configuration, "-np", processes]
        self._nnunet("nnUNetv2_preprocess", raw, "-d", number, *options)
        _write_marker(folder, self.protocol, self.options, names, self.commands)
        return tuple(self.commands)

    def _read(self, folder: Path, names: Iterable[str]):
        return read_cases(folder, "Tr", names, self.protocol.file_ending, self.protocol.hashes)

    def _finish_plans(self, folder: Path) -> None:
        path = folder / f"{layout.PLANS}.json"
        plans = read_json(path, "expected nnU-Net's plans")
        if self.options.configuration not in plans["configurations"]:
            raise InputError(
                f"nnU-Net plans no {self.options.configuration} for these data, only "
                f"{', '.join(plans['configurations'])}; prepare the study with --config 2d"
            )
        override(plans, self.options)
        write_json(path, plans, indent=4)

    def _nnunet(self, command: str, raw: Path, *arguments: str) -> None:
        environment = {
            **layout.nnunet_environment(self.experiment),
            "nnUNet_raw": str(raw),
            "nnUNet_preprocessed": str(self.draft / "preprocessed"),
            "nnUNet_n_proc_DA": "1",  # 0, which suits training on small machines, makes the planner fail
        }
        log = layout.log_file(self.experiment, self.name)
        self.commands.append(" ".join([command, *arguments]))
        run_nnunet(command, arguments, environment=environment, log=log)


@contextmanager
def _alone(experiment: Path, name: str) -> Iterator[None]:
    """Only one process at a time plans a subset; the others wait."""
    locks = experiment / "nnunet" / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(str(locks / f"{name}.lock")):
        yield


@contextmanager
def _temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder of its own; what a killed process left behind is removed first."""
    parent.mkdir(parents=True, exist_ok=True)
    for stale in parent.glob(f".{name}.*"):
        shutil.rmtree(stale, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=parent))
    try:
        (draft / "preprocessed").mkdir()
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_marker(
    folder: Path, protocol: Protocol, options: PlanOptions, names: Iterable[str], commands: Iterable[str]
) -> None:
    content = {
        "protocol": protocol.digest,
        "options": asdict(options),
        "cases": sorted(names),
        "files": {name: _sha256(folder / name) for name in _FILES},
        "commands": list(commands),
        "nnunetv2": package_version("nnunetv2"),
    }
    write_json(folder / MARKER, content)


def _check_planned(folder: Path, protocol: Protocol, options: PlanOptions) -> tuple[str, ...]:
    """Returns the commands that made a folder, if it is the one that `plan_subset` made for this study."""
    try:
        content = load_json(folder / MARKER)
        wanted = json.loads(json.dumps(asdict(options)))  # tuples become lists
        is_ours = content["protocol"] == protocol.digest and content["options"] == wanted
        changed = [name for name, digest in content["files"].items() if _sha256(folder / name) != digest]
        data = folder / f"{layout.PLANS}_{options.configuration}"
        changed += [f"{case}.b2nd" for case in content["cases"] if not (data / f"{case}.b2nd").is_file()]
        commands = tuple(content["commands"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} was not made by this study or was edited ({error}); {_MEND}") from None
    if not is_ours:
        raise InputError(f"{folder} belongs to another study; {_MEND}")
    if changed:
        raise InputError(f"{folder} was edited ({changed[0]} is missing or not the planned one); {_MEND}")
    return commands


def _sha256(path: Path) -> str | None:
    return sha256_of_file(path) if path.is_file() else None


_MEND = "move it away, and it will be planned again"
