"""Means, intervals and paired tests for scores of several trainings on the same test cases.

Scores of a method at one size are a table (S, N): S trainings (one per seed, each with its own training cases) by N
test cases. Two things are random in it: which patients are tested, and which training was made. Cases of a patient are
not independent, and neither are the scores of one training; so patients and trainings are resampled, not cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon

from nnsam.errors import InputError

LEVEL = 0.95
SAMPLES = 2000
# Up to 2 ** 14 sign patterns are all counted; beyond that they are drawn.
_EXACT = 14


@dataclass(frozen=True)
class Estimate:
    """A mean with what is known of its reliability.

    Attributes:
        mean: over cases of the mean over trainings.
        std_cases: standard deviation over cases of the mean over trainings (the tables' "+-").
        std_trainings: standard deviation over trainings of their means over cases; nan for a single training.
        low: lower end of the bootstrap interval of the mean (percentiles; patients and trainings resampled).
        high: upper end of it.
        cases: number of cases that have a score.
        trainings: S.
        missing: number of cells without a score (nan).
    """

    mean: float
    std_cases: float
    std_trainings: float
    low: float
    high: float
    cases: int
    trainings: int
    missing: int


@dataclass(frozen=True)
class Comparison:
    """A paired difference between two methods.

    Attributes:
        difference: mean of (first - second) over cells that both have.
        low: lower end of the bootstrap interval of the difference.
        high: upper end of it.
        p_patients: Wilcoxon signed-rank test over patients, of differences averaged over trainings and the patient's
            cases: would other patients show the difference, for these trainings?
        p_trainings: exact sign-flip test over trainings, of differences averaged over cases: would other trainings?
            With S trainings it is at least 2 ** (1 - S).
        patients: number of patients in it.
        trainings: number of trainings in it.
        missing: number of cells that one of the two lacks, left out.
    """

    difference: float
    low: float
    high: float
    p_patients: float
    p_trainings: float
    patients: int
    trainings: int
    missing: int


def estimate(scores: ArrayLike, patients: Sequence[str], *, samples: int = SAMPLES, seed: int = 0) -> Estimate:
    """Estimates the mean score of a method.

    Args:
        scores: (S, N), nan where there is none.
        patients: N patients, one per case.
        samples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        InputError: the shapes do not fit each other, or there is no score at all.
    """
    table = _checked(scores, patients)
    per_case, per_training = _means(table, axis=0), _means(table, axis=1)
    low, high = _interval(table, patients, samples, seed)
    return Estimate(
        float(np.nanmean(per_case)),
        _std(per_case),
        _std(per_training),
        low,
        high,
        int(np.isfinite(per_case).sum()),
        len(table),
        int(np.isnan(table).sum()),
    )


def compare(
    first: ArrayLike, second: ArrayLike, patients: Sequence[str], *, samples: int = SAMPLES, seed: int = 0
) -> Comparison:
    """Compares two methods on the same trainings' draws and test cases.

    Args:
        first: (S, N); training s of both methods had the same training cases.
        second: (S, N).
        patients: N patients, one per case.
        samples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        InputError: the shapes do not fit each other, or no cell has both scores.
    """
    tables = _checked(first, patients), _checked(second, patients)
    if tables[0].shape != tables[1].shape:
        raise InputError(
            f"the methods have scores of {tables[0].shape} and {tables[1].shape} trainings and cases; "
            "expected the same ones for a paired test"
        )
    differences = _checked(tables[0] - tables[1], patients)
    low, high = _interval(differences, patients, samples, seed)
    per_patient = _patient_means(_means(differences, axis=0), patients)
    per_training = _means(differences, axis=1)
    per_training = per_training[np.isfinite(per_training)]
    return Comparison(
        float(np.nanmean(_means(differences, axis=0))),
        low,
        high,
        _wilcoxon(per_patient),
        sign_flip_p(per_training),
        len(per_patient),
        len(per_training),
        int(np.isnan(differences).sum()),
    )


def sign_flip_p(differences: ArrayLike, samples: int = 2**_EXACT, seed: int = 0) -> float:
    """Two-sided p of the sign-flip test: how often random signs give a mean as large as the one found.

    Exact (all sign patterns) for up to 14 differences; for more, `samples` random patterns and the one found.

    Args:
        differences: (K,), finite.
        samples: number of random patterns.
        seed: of the patterns.

    Returns:
        A p value; 1 where there is nothing to test.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values) or not values.any():
        return 1.0
    if len(values) <= _EXACT:
        signs = np.array(list(product((1, -1), repeat=len(values))))
    else:
        signs = np.random.default_rng(seed).choice((1, -1), size=(samples, len(values)))
        signs[0] = 1
    means = np.abs(signs @ values)
    # Sums in another order differ in the last digits.
    return float(np.mean(means >= means[0] * (1 - 1e-12)))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusts p values for their number by Holm's step-down method; nan stays nan and does not count.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    result = np.full(values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    result[order] = np.minimum(1, np.maximum.accumulate(values[order] * factors))
    return result


def _checked(scores: ArrayLike, patients: Sequence[str]) -> NDArray[np.float64]:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(patients) or not table.size:
        raise InputError(
            f"scores have the shape {table.shape}; expected (trainings, cases) with {len(patients)} cases, as many as "
            "patients are given"
        )
    if not np.isfinite(table).any():
        raise InputError("there is no score to average: all are nan; look at the cases' empty masks")
    return table


def _means(table: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of what is not nan along an axis; nan where nothing is."""
    known = np.isfinite(table)
    count = known.sum(axis=axis)
    total = np.where(known, table, 0).sum(axis=axis)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _std(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def _patient_means(per_case: NDArray[np.float64], patients: Sequence[str]) -> NDArray[np.float64]:
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    known = np.isfinite(per_case)
    totals = np.bincount(index[known], per_case[known], minlength=len(names))
    counts = np.bincount(index[known], minlength=len(names))
    return totals[counts > 0] / counts[counts > 0]


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def _interval(table: NDArray[np.float64], patients: Sequence[str], samples: int, seed: int) -> tuple[float, float]:
    """Percentile interval of the mean over cells, with patients and trainings drawn anew, each with replacement."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    known = np.isfinite(table)
    # Per training and patient: sum and number of scores.
    totals, counts = (np.zeros((len(table), len(names))) for _ in range(2))
    for row in range(len(table)):
        totals[row] = np.bincount(index, np.where(known[row], table[row], 0), minlength=len(names))
        counts[row] = np.bincount(index, known[row], minlength=len(names))
    trainings, people = _draws(len(table), len(names), samples, seed)
    total = np.einsum("bs,bs->b", trainings, people @ totals.T)
    count = np.einsum("bs,bs->b", trainings, people @ counts.T)
    means = total[count > 0] / count[count > 0]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@lru_cache(maxsize=16)
def _draws(trainings: int, patients: int, samples: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each training (B, S) and each patient (B, P) was drawn; the same draws for all cells of a report."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(trainings, np.full(trainings, 1 / trainings), size=samples)
    people = generator.multinomial(patients, np.full(patients, 1 / patients), size=samples)
    result = drawn.astype(np.float64), people.astype(np.float64)
    for array in result:
        array.flags.writeable = False
    return result
