"""What lies behind the means: numbers of cases and patients, empty masks and their scores, runs that are missing."""

import math

import numpy as np

from nnsam.fewshot.report_document import Block, Items, Paragraph, Table, make_row
from nnsam.fewshot.report_words import method_label
from nnsam.fewshot.results import Results
from nnsam.fewshot.run_state import DONE


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
