"""Plans and preprocesses one training subset with nnU-Net's commands, from its training cases only.

nnU-Net plans a data set from all its cases, validation included, and knows no other way: spacing, normalisation (of
CT), patch and batch size of a few-shot run would come from cases that the run must not have. Here nnU-Net plans a
temporary data set of the training cases alone, and preprocesses training and validation cases with these plans.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from nnsam.errors import InputError
from nnsam.fewshot.study import layout
from nnsam.fewshot.study.cases import read_cases, write_raw_dataset
from nnsam.fewshot.study.plan_options import PlanOptions, override
from nnsam.fewshot.study.protocol import Protocol
from nnsam.nnunet.commands import run_guarded
from nnsam.support.machine import package_version

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
        dataset = json.loads((raw / self.name / "dataset.json").read_text(encoding="utf-8"))
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
        (folder / "splits_final.json").write_text(json.dumps(split, indent=1) + "\n", encoding="utf-8")
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
        plans = json.loads(path.read_text(encoding="utf-8"))
        if self.options.configuration not in plans["configurations"]:
            raise InputError(
                f"nnU-Net plans no {self.options.configuration} for these data, only "
                f"{', '.join(plans['configurations'])}; prepare the study with --config 2d"
            )
        override(plans, self.options)
        path.write_text(json.dumps(plans, indent=4) + "\n", encoding="utf-8")

    def _nnunet(self, command: str, raw: Path, *arguments: str) -> None:
        environment = {
            **layout.nnunet_environment(self.experiment),
            "nnUNet_raw": str(raw),
            "nnUNet_preprocessed": str(self.draft / "preprocessed"),
            "nnUNet_n_proc_DA": "1",  # 0, which suits training on small machines, makes the planner fail
        }
        log = layout.log_file(self.experiment, self.name)
        self.commands.append(" ".join([command, *arguments]))
        run_guarded(command, arguments, environment=environment, log=log)


@contextmanager
def _alone(experiment: Path, name: str) -> Iterator[None]:
    """Only one process at a time plans a subset; the others wait."""
    from filelock import FileLock

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
    (folder / MARKER).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _check_planned(folder: Path, protocol: Protocol, options: PlanOptions) -> tuple[str, ...]:
    """Returns the commands that made a folder, if it is the one that `plan_subset` made for this study."""
    try:
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
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
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


_MEND = "move it away, and it will be planned again"
