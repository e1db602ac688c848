"""Which cases of a raw data set may train, validate and test: drawn, or as the data set says."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from nnsam.errors import InputError
from nnsam.fewshot.sources import Source
from nnsam.fewshot.splits import Split, draw_split

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
        fold = json.loads(path.read_text(encoding="utf-8"))[0]
        lists = {name: [str(case) for case in fold[name]] for name in ("train", "val")}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error!r}); expected nnU-Net's list of folds") from error
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
