"""Who trains, who validates, who tests: drawn once, by a seed, and never overlapping.

A case is what the network is trained on, a slice for the paper's data; a patient has one or several cases.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnsam.errors import InputError
from nnsam.nnunet.raw_dataset import Source
from nnsam.support.files import load_json
from nnsam.support.text import clipped, shown

RULES = ("patient", "slice", "given")


@dataclass(frozen=True)
class Split:
    """Three disjoint lists of cases, each sorted.

    Attributes:
        pool: cases that training subsets are drawn from.
        validation: for choices such as hyper-parameters.
        test: for the report, and nothing else.
    """

    pool: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def check(self, patients: Mapping[str, str]) -> None:
        """Raises InputError where a patient is in two of the lists.

        Args:
            patients: case -> patient.
        """
        owners: dict[str, str] = {}
        for name in ("test", "validation", "pool"):
            for case in getattr(self, name):
                other = owners.setdefault(patients[case], name)
                if other != name:
                    raise InputError(
                        f"patient {patients[case]} has cases in {_WORDS[other]} and in {_WORDS[name]} ({case}); "
                        "expected each patient in one of them: choose --split patient, or mend the given split"
                    )


_WORDS = {"pool": "the training cases", "validation": "the validation cases", "test": "the test cases"}


def draw_split(patients: Mapping[str, str], rule: str, validation: int, test: int, seed: int = 0) -> Split:
    """Draws validation and test cases; what is left is the pool for training.

    - ``patient``: whole patients are drawn until there are enough cases, for the test first. What the last patient has
      too many of is left out altogether, so that the numbers are those asked for and no patient is in two lists.
    - ``slice``: cases are drawn whoever they belong to, as in nnSAM's paper. Test cases then resemble training cases
      of the same patient, and scores are too good.

    Args:
        patients: case -> patient.
        rule: "patient" or "slice".
        validation: number of validation cases.
        test: number of test cases.
        seed: of the draw.

    Raises:
        InputError: unknown rule, or too few cases or patients.
    """
    if rule not in ("patient", "slice"):
        raise InputError(f"the split rule {shown(rule)} is unknown; expected {', '.join(RULES)}")
    if validation < 0 or test < 1:
        raise InputError(f"found {validation} validation and {test} test cases; expected at least 0 and 1")
    if validation + test >= len(patients):
        raise InputError(
            f"{validation} validation and {test} test cases were asked for, and there are {len(patients)} cases in "
            "all, so that none is left for training; ask for fewer"
        )
    generator = np.random.default_rng(seed)
    if rule == "slice":
        order = [str(case) for case in generator.permutation(sorted(patients))]
        return _sorted(order[test + validation :], order[test : test + validation], order[:test])
    cases_of: dict[str, list[str]] = {}
    for case in sorted(patients):
        cases_of.setdefault(patients[case], []).append(case)
    waiting = [str(patient) for patient in generator.permutation(sorted(cases_of))]
    chosen = [_take(waiting, cases_of, count) for count in (test, validation)]
    pool = [case for patient in waiting for case in cases_of[patient]]
    if not pool:
        raise InputError(
            f"the {len(cases_of)} patients are all needed for {test} test and {validation} validation cases, so that "
            "none is left for training; ask for fewer cases, or choose --split slice"
        )
    return _sorted(pool, chosen[1], chosen[0])


def _take(waiting: list[str], cases_of: Mapping[str, list[str]], count: int) -> list[str]:
    """Takes patients from the front of `waiting` until they have `count` cases."""
    taken: list[str] = []
    while len(taken) < count and waiting:
        taken += cases_of[waiting.pop(0)]
    return taken[:count]


def _sorted(pool: Sequence[str], validation: Sequence[str], test: Sequence[str]) -> Split:
    return Split(tuple(sorted(pool)), tuple(sorted(validation)), tuple(sorted(test)))


def draw_subsets(
    pool: Sequence[str], sizes: Sequence[int], seeds: Sequence[int]
) -> dict[tuple[int, int], tuple[str, ...]]:
    """Draws training subsets: for each seed one random order of the pool, whose first n cases are the subset of size n.

    Subsets of a seed are therefore nested, and a learning curve adds cases instead of exchanging them.

    Args:
        pool: cases to draw from.
        sizes: numbers of training cases, ascending.
        seeds: one draw each.

    Returns:
        (size, seed) -> sorted cases.

    Raises:
        InputError: no sizes or seeds, sizes that are not ascending, or a pool that is too small.
    """
    if not sizes or not seeds:
        raise InputError("at least one size and one seed are needed; give --sizes and --seeds")
    if list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
        raise InputError(f"the sizes are {', '.join(map(str, sizes))}; expected ascending numbers of at least 1")
    if len(set(seeds)) != len(seeds):
        raise InputError(f"the seeds {', '.join(map(str, seeds))} repeat themselves; expected each once")
    if sizes[-1] > len(pool):
        raise InputError(
            f"{sizes[-1]} training cases were asked for, and there are {len(pool)} left after validation and test "
            "cases were drawn; ask for smaller sizes, or for fewer validation or test cases"
        )
    subsets = {}
    for seed in seeds:
        order = np.random.default_rng([seed, 2309]).permutation(sorted(pool))
        for size in sizes:
            subsets[size, seed] = tuple(sorted(str(case) for case in order[:size]))
    return subsets


SPLITS_FILE = "splits_final.json"


def choose_split(
    source: Source,
    patients: Mapping[str, str],
    rule: str,
    validation: int | None,
    test: int | None,
    seed: int,
) -> Split:
    """Chooses pool, validation and test cases.

    - ``patient`` and ``slice`` draw from all labelled cases, those of imagesTs included.
    - ``given`` takes imagesTs for the test, and fold 0 of splits_final.json for validation and pool; without that file
      whole patients of imagesTr are drawn for the validation.

    Args:
        source: the data set.
        patients: case -> patient, of all its cases.
        rule: see above.
        validation: number of validation cases. ``given``: a cap, drawn at random; None for all of them.
        test: number of test cases, in the same way.
        seed: of the draws.

    Raises:
        InputError: missing numbers, too few cases, a patient in two lists, or a split that does not fit the files.
    """
    if rule != "given":
        if validation is None or test is None:
            raise InputError(f"--split {rule} draws validation and test cases; say how many with --val and --test")
        if validation < 1:
            raise InputError(f"found {validation} validation cases; expected at least 1, which nnU-Net needs")
        return draw_split({case: patients[case] for case in source.cases}, rule, validation, test, seed)
    split = _given(source, patients, validation, seed)
    split = Split(
        split.pool,
        _capped(split.validation, validation, "validation", seed),
        _capped(tuple(source.test), test, "test", seed),
    )
    split.check(patients)
    return split


def _given(source: Source, patients: Mapping[str, str], validation: int | None, seed: int) -> Split:
    """Pool and validation cases of imagesTr; no test cases."""
    if not source.test:
        raise InputError(
            f"{source.folder} has no labelled test cases in imagesTs and labelsTs, which --split given takes; choose "
            "--split patient or slice"
        )
    path = source.folder / SPLITS_FILE
    if path.is_file():
        fold = _read_fold(path, source.training)
        return Split(tuple(sorted(fold["train"])), tuple(sorted(fold["val"])), ())
    if validation is None or validation < 1:
        raise InputError(
            f"{source.folder} has no {SPLITS_FILE} with validation cases; say with --val how many are to be drawn "
            "from imagesTr, at least 1"
        )
    drawn = draw_split({case: patients[case] for case in source.training}, "patient", 0, validation, seed)
    return Split(drawn.pool, drawn.test, ())


def _read_fold(path: Path, training: Iterable[str]) -> dict[str, list[str]]:
    try:
        fold = load_json(path)[0]
        lists = {name: [str(case) for case in fold[name]] for name in ("train", "val")}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({clipped(repr(error))}); expected nnU-Net's list of folds") from error
    for name, cases in lists.items():
        if not cases:
            raise InputError(f"fold 0 of {path} has no {name} cases; expected at least 1")
        unknown = sorted(set(cases) - set(training))
        if unknown:
            raise InputError(f"fold 0 of {path} names case {unknown[0]}, of which imagesTr holds no image")
        if len(set(cases)) < len(cases):
            raise InputError(f"fold 0 of {path} names a case twice among the {name} cases; expected each once")
    both = sorted(set(lists["train"]) & set(lists["val"]))
    if both:
        raise InputError(f"fold 0 of {path} has case {both[0]} in train and in val; expected it in one")
    return lists


def _capped(cases: tuple[str, ...], count: int | None, name: str, seed: int) -> tuple[str, ...]:
    if count is None:
        return tuple(sorted(cases))
    if not 1 <= count <= len(cases):
        raise InputError(
            f"{count} {name} cases were asked for, and the given split has {len(cases)}; ask for 1 to that"
        )
    # The name keeps the draws of two lists apart.
    generator = np.random.default_rng([seed, len(name)])
    return tuple(sorted(str(case) for case in generator.permutation(sorted(cases))[:count]))
