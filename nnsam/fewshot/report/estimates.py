"""Every number of a report: means with intervals, and paired tests against the reference method, per table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnsam.fewshot.report.results import Results, over_structures
from nnsam.fewshot.report.statistics import Comparison, Estimate, compare, estimate, holm


class Place(NamedTuple):
    """Which number: `structure` is None for the mean over structures."""

    method: str
    size: int
    metric: str
    structure: str | None


@dataclass(frozen=True)
class Cell:
    """A method's score at a size.

    Attributes:
        estimate: mean, spread, interval; None where no case has a score.
        trainings: seed -> mean over cases, of the finished trainings; nan where no case has a score.
        expected: number of trainings that the study asks for.
    """

    estimate: Estimate | None
    trainings: dict[int, float]
    expected: int

    @property
    def is_partial(self) -> bool:
        """Some trainings are missing."""
        return len(self.trainings) < self.expected


@dataclass(frozen=True)
class Test:
    """A method against the reference.

    Attributes:
        comparison: method minus reference, over what both have.
        p_patients: Holm-adjusted over all tests of the table.
        p_trainings: likewise.
    """

    comparison: Comparison
    p_patients: float
    p_trainings: float


@dataclass(frozen=True)
class TableNumbers:
    """The numbers of one table and its tests.

    Attributes:
        metrics: in it.
        structures: in it; (None,) for the means over structures.
        reference: method that the others are compared with; None: no tests.
        cells: all of them.
        tests: of the other methods, where there is something to compare.
    """

    metrics: tuple[str, ...]
    structures: tuple[str | None, ...]
    reference: str | None
    cells: dict[Place, Cell]
    tests: dict[Place, Test]


def overall_numbers(results: Results, metrics: Sequence[str], reference: str | None) -> TableNumbers:
    """Numbers of the table of means over structures; its tests are one family for Holm's correction.

    A case's score is the mean over its structures that have one. A test compares the structures, cases and trainings
    that both methods have, so that its difference need not be that of the two means.
    """
    return _numbers(results, metrics, (None,), reference)


def structure_numbers(results: Results, metric: str, reference: str | None) -> TableNumbers:
    """Numbers of the table of one metric by structure; its tests are one family for Holm's correction."""
    return _numbers(results, [metric], results.structures, reference)


def _numbers(
    results: Results, metrics: Sequence[str], structures: Sequence[str | None], reference: str | None
) -> TableNumbers:
    places = [
        Place(method, size, metric, structure)
        for method in results.methods
        for metric in metrics
        for size in results.sizes
        for structure in structures
    ]
    cells = {place: _cell(results, place) for place in places}
    others = [place for place in places if reference is not None and place.method != reference]
    tests = _adjusted(
        (place, test) for place in others if (test := _compare(results, place, str(reference))) is not None
    )
    return TableNumbers(tuple(metrics), tuple(structures), reference, cells, tests)


def _scores(results: Results, place: Place) -> NDArray[np.float64]:
    """(S, N, C); a single structure has C = 1."""
    scores = results.of(place.method, place.size, place.metric)
    if place.structure is None:
        return scores
    column = results.structures.index(place.structure)
    return scores[..., column : column + 1]


def _cell(results: Results, place: Place) -> Cell:
    finished = results.finished(place.method, place.size)
    table = over_structures(_scores(results, place))[finished]
    means = over_structures(table)
    seeds = [seed for seed, there in zip(results.seeds, finished, strict=True) if there]
    trainings = {seed: float(mean) for seed, mean in zip(seeds, means, strict=True)}
    found = estimate(table, results.patients) if np.isfinite(table).any() else None
    return Cell(found, trainings, len(results.seeds))


def _compare(results: Results, place: Place, reference: str) -> Comparison | None:
    both = results.finished(place.method, place.size) & results.finished(reference, place.size)
    first = _scores(results, place)[both]
    second = _scores(results, place._replace(method=reference))[both]
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return None
    tables = [over_structures(np.where(known, scores, np.nan)) for scores in (first, second)]
    return compare(tables[0], tables[1], results.patients)


def _adjusted(found: Iterable[tuple[Place, Comparison]]) -> dict[Place, Test]:
    comparisons = dict(found)
    patients = holm([comparison.p_patients for comparison in comparisons.values()])
    trainings = holm([comparison.p_trainings for comparison in comparisons.values()])
    return {
        place: Test(comparison, float(by_patients), float(by_trainings))
        for (place, comparison), by_patients, by_trainings in zip(comparisons.items(), patients, trainings, strict=True)
    }


def best_methods(numbers: TableNumbers, methods: Sequence[str]) -> set[Place]:
    """Places with the best mean of their column; none where a single method has one."""
    best = set()
    columns = {place._replace(method="") for place in numbers.cells}
    for column in columns:
        means = {
            place: found.mean
            for method in methods
            if (found := numbers.cells[(place := column._replace(method=method))].estimate) is not None
        }
        if len(means) > 1:
            pick = max if column.metric in ("dice", "nsd") else min
            value = pick(means.values())
            best |= {place for place, mean in means.items() if mean == value}
    return best
