"""Which prediction belongs to which reference: cases are matched by file name without ending."""

from pathlib import Path

from nnsam.errors import InputError
from nnsam.metrics.label_files import find_label_files

Pairs = dict[str, tuple[Path, Path]]


def match_cases(predictions: Path, references: Path) -> Pairs:
    """Maps case names to (prediction, reference); two single files are a pair whatever their names.

    Raises:
        InputError: no label maps, or cases without partner.
    """
    predicted, expected = find_label_files(predictions), find_label_files(references)
    if predictions.is_file() and references.is_file():
        return {next(iter(expected)): (predictions, references)}
    missing, extra = sorted(expected.keys() - predicted.keys()), sorted(predicted.keys() - expected.keys())
    if missing:
        raise InputError(f"{predictions} lacks {len(missing)} of {len(expected)} predictions: {_some(missing)}.")
    if extra:
        raise InputError(f"{references} lacks the references of {len(extra)} predictions: {_some(extra)}.")
    return {case: (predicted[case], expected[case]) for case in expected}


def _some(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
