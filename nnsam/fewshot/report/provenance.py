"""What is needed to repeat a study: budget, versions, machines, commands; and which runs it lacks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from nnsam.fewshot.report.results import Results, has_budget, in_words
from nnsam.fewshot.runs.state import DONE, RunState
from nnsam.support.machine import package_version


def missing_runs(results: Results) -> list[str]:
    """Runs of the methods of the report that are not finished, with the reason."""
    runs = {(run.key.method, run.key.size, run.key.seed): run for run in results.runs}
    lines = []
    for method in results.methods:
        for size in results.sizes:
            for seed in results.seeds:
                run = runs.get((method, size, seed))
                if run is None:
                    lines.append(f"{method}, size {size}, seed {seed}: not started")
                elif run.state != DONE:
                    reason = f" ({run.error})" if run.error else ""
                    lines.append(f"{method}, size {size}, seed {seed}: {run.state}{reason}")
    return lines


def facts(results: Results) -> list[str]:
    """Data set, budget, versions, machines and weights of the finished runs, a sentence each."""
    finished = [run for run in results.runs if run.state == DONE]
    fixed = [run for run in finished if has_budget(run)]
    own = sorted({run.key.method for run in finished if not has_budget(run)})
    protocol = results.protocol
    return [
        f"Data set: {protocol.dataset}. Protocol: `protocol.json`, digest `{protocol.digest}`, prepared with "
        f"{in_words(protocol.versions)}.",
        f"Budget of every run: {in_words(fixed[0].budget) if fixed else 'not set'}; prediction: "
        f"{in_words(finished[0].prediction)}.",
        f"This report: nnsam {package_version('nnsam')}, profile {results.rules.profile}.",
        *(
            f"Trainers with a budget of their own, so that the comparison is not at equal budget: {names}."
            for names in [", ".join(own)] * bool(own)
        ),
        *_counted("Versions", (in_words(run.versions) for run in finished), len(finished)),
        *_counted("Machine", (_machine(run.machine) for run in finished), len(finished)),
        *dict.fromkeys(f"{run.key.method}: {run.note}." for run in finished if run.note),
        *dict.fromkeys(
            f"SAM weights of {run.key.method}: {_weights(run.sam_weights)}." for run in finished if run.sam_weights
        ),
    ]


def _counted(what: str, names: Iterable[str], of: int) -> list[str]:
    return [f"{what} of {count} of {of} runs: {name}." for name, count in Counter(names).items()]


def _weights(record: Any) -> str:
    if not isinstance(record, dict):
        return str(record)
    return f"{record.get('kind')}, SHA-256 `{record.get('sha256')}`"


def _machine(machine: dict[str, Any]) -> str:
    parts = [machine.get("processor"), machine.get("cores") and f"{machine['cores']} cores", machine.get("gpu")]
    return ", ".join(str(part) for part in [*parts, machine.get("system")] if part) or "not recorded"


def commands(runs: Sequence[RunState]) -> list[str]:
    """The commands of some runs, each run's after a line that names it."""
    return [line for run in runs for line in (f"# {run.key}", *run.commands)]


def first_runs(results: Results) -> list[RunState]:
    """The first finished run of each method."""
    by_method = {run.key.method: run for run in reversed(results.runs) if run.state == DONE}
    return [by_method[method] for method in results.methods if method in by_method]
