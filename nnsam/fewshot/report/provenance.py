"""All that is needed to repeat a study: split, hashes, budget, versions, machines, times, commands."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnsam.fewshot.report.document import Block, Heading, Items, Listing, Paragraph, Table, make_row
from nnsam.fewshot.report.results import Results, describe, has_budget
from nnsam.fewshot.report.tables import method_label
from nnsam.fewshot.runs.state import DONE, RunState
from nnsam.support.machine import package_version


def missing_runs(results: Results) -> list[str]:
    """Runs of the methods of the report that are not finished, with the reason."""
    states = {run.key: run for run in results.runs}
    by_place = {(key.method, key.size, key.seed): run for key, run in states.items()}
    lines = []
    for method in results.methods:
        for size in results.sizes:
            for seed in results.seeds:
                run = by_place.get((method, size, seed))
                if run is None:
                    lines.append(f"{method}, size {size}, seed {seed}: not started")
                elif run.state != DONE:
                    reason = f" ({run.error})" if run.error else ""
                    lines.append(f"{method}, size {size}, seed {seed}: {run.state}{reason}")
    return lines


def completeness(results: Results) -> list[Block]:
    """A warning with the list of runs that are missing; nothing where all are there."""
    missing = missing_runs(results)
    if not missing:
        return []
    text = (
        f"{len(missing)} of {results.done.size} runs are missing or failed. Their cells are marked with the number of "
        "trainings that there are, and tests use the trainings that both methods have."
    )
    return [Paragraph(text, is_warning=True), Items(tuple(missing))]


def case_counts(results: Results) -> list[Block]:
    """Numbers of cases and empty masks, and what such cases score."""
    rules = results.rules
    people = len(set(results.patients))
    tolerance = "" if math.isnan(rules.tolerance) else f"; NSD has a tolerance of {rules.tolerance:g} {rules.unit}"
    units = "mm" if rules.unit == "mm" else "pixels: the images state no pixel size"
    texts = [
        f"Scored: {len(results.cases)} {results.part} cases of {people} patients, {len(results.structures)} structures "
        f"({', '.join(results.structures)}). Training sizes {_join(results.sizes)}, seeds {_join(results.seeds)}.",
        f"Profile {rules.profile}: distances are in {units}{tolerance}. Empty masks: {rules.policy}. A case's mean is "
        "over the structures that have a score; a mean over cases is over the cases that have one.",
    ]
    return [Items(tuple(texts)), _empty_table(results)]


def _empty_table(results: Results) -> Table:
    rows = []
    absent = results.empty_reference
    for method in results.methods:
        for row, size in enumerate(results.sizes):
            finished = results.finished(method, size)
            place = results.methods.index(method), results.sizes.index(size)
            empty = results.empty_prediction[place][finished]
            total = int(empty.size)
            missed = (empty & ~absent).sum()
            false_alarms, both = (~empty & absent).sum(), (empty & absent).sum()
            undefined = int(np.isnan(results.of(method, size, "asd")[finished]).sum())
            label = "" if row else method_label(results, method)
            rows.append(make_row([label, str(size), *map(str, (total, missed, false_alarms, both, undefined))]))
    notes = (
        f"Of the {absent.size} pairs of case and structure, {int(absent.sum())} have an empty reference.",
        "Total miss: the reference holds the structure and the prediction does not. False alarm: the other way round. "
        "A method with many total misses has a flattering mean ASD and HD95 where these cases have no distance: read "
        "them together with Dice and NSD, in which they count as 0.",
    )
    columns = ("Method", "n", "scores", "total misses", "false alarms", "empty in both", "without ASD")
    return Table("Empty masks, counted over trainings, cases and structures", columns, tuple(rows), notes)


def _join(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


_RULES = {
    "patient": "Whole patients were drawn: no patient is in two of training, validation and test cases.",
    "slice": "Cases were drawn whoever they belong to, as in nnSAM's paper.",
    "given": "Training, validation and test cases are those given with the data; no patient is in two of them.",
}


def split_blocks(results: Results) -> list[Block]:
    """The split rule, its leak if it has one, and the planning."""
    protocol = results.protocol
    blocks: list[Block] = [Paragraph(_RULES[protocol.rule])]
    if protocol.rule == "slice":
        blocks.append(
            Paragraph(
                "Slices of one patient may be in training and test. They resemble each other, so that the scores are "
                "better than they would be for new patients. Prepare with --split patient for scores that hold for "
                "these.",
                is_warning=True,
            )
        )
    if protocol.planning == "all":
        blocks.append(
            Paragraph(
                "nnU-Net planned from all cases but the test's: spacing, patch size and intensity statistics of the "
                "few-shot runs know cases that were not among their training cases. --planning training avoids this.",
                is_warning=True,
            )
        )
    else:
        blocks.append(Paragraph("nnU-Net planned each subset from its own training cases alone."))
    return blocks


def provenance(results: Results) -> list[Block]:
    """The section on how to repeat the study."""
    finished = [run for run in results.runs if run.state == DONE]
    return [
        Heading(2, "How to repeat it"),
        Items(tuple(_facts(results, finished))),
        _times(results, finished),
        _hashes(results),
        *_commands(results, finished),
    ]


def _facts(results: Results, finished: Sequence[RunState]) -> list[str]:
    protocol = results.protocol
    fixed = [run for run in finished if has_budget(run)]
    own = sorted({run.key.method for run in finished if not has_budget(run)})
    machines: dict[str, int] = {}
    for run in finished:
        name = _machine(run.machine)
        machines[name] = machines.get(name, 0) + 1
    versions: dict[str, int] = {}
    for run in finished:
        name = describe(run.versions)
        versions[name] = versions.get(name, 0) + 1
    facts = [
        f"Data set: {protocol.dataset}. Protocol: `protocol.json`, digest `{protocol.digest}`, prepared with "
        f"{describe(protocol.versions)}.",
        f"Budget of every run: {describe(fixed[0].budget) if fixed else 'not set'}; prediction: "
        f"{describe(finished[0].prediction)}.",
    ]
    facts.append(f"This report: nnsam {package_version('nnsam')}, profile {results.rules.profile}.")
    if own:
        facts.append(
            f"Trainers with a budget of their own, so that the comparison is not at equal budget: {', '.join(own)}."
        )
    facts += [f"Versions of {count} of {len(finished)} runs: {name}." for name, count in versions.items()]
    facts += [f"Machine of {count} of {len(finished)} runs: {name}." for name, count in machines.items()]
    notes = dict.fromkeys(f"{run.key.method}: {run.note}." for run in finished if run.note)
    weights = dict.fromkeys(
        f"SAM weights of {run.key.method}: {_weights(run.sam_weights)}." for run in finished if run.sam_weights
    )
    return [*facts, *notes, *weights]


def _weights(record: Any) -> str:
    if not isinstance(record, dict):
        return str(record)
    return f"{record.get('kind')}, SHA-256 `{record.get('sha256')}`"


def _machine(machine: dict[str, Any]) -> str:
    parts = [machine.get("processor"), machine.get("cores") and f"{machine['cores']} cores", machine.get("gpu")]
    return ", ".join(str(part) for part in [*parts, machine.get("system")] if part) or "not recorded"


def _times(results: Results, finished: Sequence[RunState]) -> Table:
    steps = list(dict.fromkeys(step for run in finished for step in run.seconds))
    rows = []
    for method in results.methods:
        runs = [run for run in finished if run.key.method == method]
        if not runs:
            continue
        sums = [sum(run.seconds.get(step, 0.0) for run in runs) / len(runs) for step in steps]
        hours = sum(sum(run.seconds.values()) for run in runs) / 3600
        attempts = sum(max(0, run.attempts - 1) for run in runs)
        numbers = [*(f"{seconds:.1f}" for seconds in sums), f"{hours:.2f}", str(attempts)]
        rows.append(make_row([method_label(results, method), str(len(runs)), *numbers]))
    columns = ("Method", "runs", *(f"{step} (s per run)" for step in steps), "hours in all", "restarts")
    return Table("Time", columns, tuple(rows), labels=1)


def _hashes(results: Results) -> Table:
    rows = tuple(make_row([name, f"`{digest}`"]) for name, digest in results.protocol.list_hashes().items())
    return Table("SHA-256 of the lists of cases", ("List", "SHA-256 of the sorted names"), rows)


def _commands(results: Results, finished: Sequence[RunState]) -> list[Block]:
    by_method = {run.key.method: run for run in reversed(finished)}
    examples = [
        line
        for method in results.methods
        if method in by_method
        for line in (f"# {by_method[method].key}", *by_method[method].commands)
    ]
    everything = [line for run in finished for line in (f"# {run.key}", *run.commands)]
    return [
        Listing("Commands of the first run of each method, as its run.json records them", tuple(examples)),
        Listing(f"Commands of all {len(finished)} finished runs", tuple(everything), is_folded=True),
    ]
