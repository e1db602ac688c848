"""The runs of a study, and whether they belong into one report."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnsam.errors import InputError
from nnsam.fewshot.protocol import Protocol, subset_name
from nnsam.fewshot.run_key import RUNS, RunKey
from nnsam.fewshot.run_state import DONE, FILE, RunState
from nnsam.fewshot.scoring import check_results

# Packages whose version decides what a training computes.
PACKAGES = ("nnsam", "nnunetv2", "torch")


def read_runs(experiment: Path, protocol: Protocol) -> list[RunState]:
    """Reads the record of every run of a study, by method, size and seed.

    Raises:
        InputError: no runs, a damaged or edited record, a folder that is no subset of the study, a run of another
            study, or a finished run whose scores or label maps were edited.
    """
    subsets = {subset_name(*key): key for key in protocol.subsets}
    runs = []
    for path in sorted((experiment / RUNS).glob(f"*/*/{FILE}")):
        if path.parent.name not in subsets:
            raise InputError(
                f"{path.parent} is no subset of the study, which has {', '.join(subsets)}; remove the folder or "
                "restore the protocol"
            )
        run = RunState.read(experiment, RunKey(path.parent.parent.name, *subsets[path.parent.name]))
        if run is None:
            continue  # removed in this moment
        if run.protocol_digest != protocol.digest:
            raise InputError(
                f"{path} was made for a study with the protocol digest {run.protocol_digest[:12]}, and the protocol of "
                f"{experiment} has {protocol.digest[:12]}; report each study by itself, or make the run again"
            )
        if run.state == DONE:
            check_results(path.parent, run.results)
        runs.append(run)
    if not runs:
        raise InputError(f"{experiment} holds no runs; start them with `nnsam fewshot run {experiment} --methods ...`")
    return sorted(runs, key=lambda run: run.key)


def check_alike(runs: Sequence[RunState], *, allow_mixed_versions: bool = False) -> None:
    """Checks that finished runs can be compared.

    Trainers that decide on their budget themselves are let pass here; the report names them.

    Raises:
        InputError: runs differ in budget or prediction, or in the versions of nnsam, nnU-Net or PyTorch.
    """
    fixed = [run for run in runs if has_budget(run)]
    _check_one(fixed, "budget", lambda run: describe(run.budget), "make the runs of the other budget again")
    _check_one(runs, "prediction", lambda run: describe(run.prediction), "make the runs of the other kind again")
    for package in () if allow_mixed_versions else PACKAGES:
        _check_one(
            runs,
            f"version of {package}",
            lambda run, package=package: str(run.versions.get(package, "not recorded")),  # type: ignore[misc]
            "make the older runs again, or accept it with --allow-mixed-versions",
        )


def _check_one(runs: Iterable[RunState], what: str, value: Callable[[RunState], str], mend: str) -> None:
    first: dict[str, RunState] = {}
    for run in runs:
        first.setdefault(value(run), run)
    if len(first) > 1:
        found = ", ".join(f"{text} ({run.key})" for text, run in first.items())
        raise InputError(f"the runs differ in their {what}: {found}; expected one for a fair comparison: {mend}")


def has_budget(run: RunState) -> bool:
    """Whether the run's budget was set, and not left to a trainer of somebody else's."""
    return None not in run.budget.values()


def has_random_sam(run: RunState) -> bool:
    """Whether the run's SAM encoder had random weights."""
    return isinstance(run.sam_weights, Mapping) and run.sam_weights.get("kind") == "random"


def describe(values: Mapping[str, Any]) -> str:
    """A mapping in words, e.g. "epochs 4, iterations 40"."""
    words = {True: "on", False: "off"}
    parts = (f"{key} {words[value] if isinstance(value, bool) else value}" for key, value in sorted(values.items()))
    return ", ".join(parts) or "not recorded"
