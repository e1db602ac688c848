"""Scores of a folder of predictions against a folder of references."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnsam.errors import InputError, NnsamError, NnsamWarning
from nnsam.io.dicom.segmentation import on_grid
from nnsam.io.finding import Pairs, match_cases
from nnsam.io.formats import kind_of
from nnsam.io.image import Image, reason_of
from nnsam.io.npz import PREDICTION_KEY, REFERENCE_KEYS, read_npz_labels
from nnsam.io.reading import read_labels
from nnsam.metrics.classes import Classes, classes_from_values, read_classes
from nnsam.metrics.masks import CaseMasks
from nnsam.metrics.profiles import Profile, ScoringOptions, find_profile
from nnsam.support.concurrency import pass_on_ending


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class in one case.

    Attributes:
        case: name of the case.
        label: name of the class.
        reference_pixels: size of the class in the reference.
        predicted_pixels: size of the class in the prediction.
        scores: score name -> value, nan where undefined.
    """

    case: str
    label: str
    reference_pixels: int
    predicted_pixels: int
    scores: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """All scores and how they came about.

    Attributes:
        rows: one per case and class, by case.
        classes: what was scored; empty where every case has classes of its own, such as the objects of an npz.
        classes_source: where the classes came from, for the reader.
        profile: name of the rules.
        options: options of the rules.
        unit: of distances, "mm", "pixels", or "mm or pixels" where the profile has both.
        cases: names of all cases that were scored, in order, also of those without any row.
        failures: case -> sentence, of those that could not be, see `evaluate`.
    """

    rows: list[ClassScore]
    classes: Classes
    classes_source: str
    profile: str
    options: ScoringOptions
    unit: str = field(default="mm")
    cases: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


def evaluate(
    predictions: str | Path,
    references: str | Path,
    *,
    dataset_json: str | Path | None = None,
    spacing: Sequence[float] | None = None,
    profile: str = "standard",
    options: ScoringOptions | None = None,
    reference_key: str = "auto",
    keep_going: bool = False,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> Evaluation:
    """Scores every case and class.

    Args:
        predictions: folder of label maps, or one label map; npz files hold them under `segs`.
        references: likewise; cases are matched by file name without ending.
        dataset_json: nnU-Net's file with the labels, which may be regions and an ignore label. By default it is
            looked for in `predictions`, in `references` and beside the latter; if there is none, every value found
            is a class. Objects in npz files have no classes: each case has its own.
        spacing: pixel size in array order, for files that hold none, such as pictures (PNG, TIFF); without it: pixels.
        profile: one of `PROFILES`.
        options: options of the profile.
        reference_key: which array of npz references counts, see `read_npz_labels`.
        keep_going: a case that cannot be scored is among the `failures`, and the others are; unless all cannot.
        progress: wraps the list of cases, for a progress bar.

    Returns:
        The scores. Pixels that the reference marks as "ignore" count as background in both label maps, so that a
        contour cut by an ignored area is measured along the cut in both.

    Raises:
        InputError: cases without partner, unreadable files, different geometry, values that no class has, options that
            the profile does not have.

    Warns:
        NnsamWarning: once, of cases of which one mask is 0 and 1 and the other 0 and 255.
    """
    options = options or ScoringOptions()
    rules = find_profile(profile, options)
    if reference_key not in REFERENCE_KEYS:
        raise InputError(f"Unknown reference key {reference_key!r}; known: {', '.join(REFERENCE_KEYS)}.")
    pairs = match_cases(Path(predictions), Path(references))
    classes, source = _find_classes(
        Path(predictions), Path(references), dataset_json, pairs, rules, reference_key, keep_going
    )
    rows: list[ClassScore] = []
    units: dict[str, str] = {}
    failures: dict[str, str] = {}
    scales: list[tuple[str, int]] = []
    spacing_is_used = spacing is None
    for case in progress(list(pairs)):
        try:
            unit, holds_spacing, scores = _evaluate_case(
                case, pairs[case], classes, spacing, rules, options, reference_key, scales
            )
        except Exception as error:  # of one case, whatever it is; the others are scored
            pass_on_ending()
            if not keep_going:
                raise
            failures[case] = _sentence(case, error)
            continue
        spacing_is_used |= not holds_spacing
        units.setdefault(unit, case)
        if len(units) > 1 and not rules.pictures_in_pixels:
            raise InputError(
                f"Distances would be in mm in {units['mm']} and in pixels in {units['pixels']}; give the pixel size of "
                "the files that hold none with --spacing, or score them in a folder of their own."
            )
        rows += scores
    _warn_of_other_scale(scales, len(pairs))
    if len(failures) == len(pairs):
        raise InputError(next(iter(failures.values())))
    if not spacing_is_used:
        raise InputError(f"{pairs[case][1]} holds its own spacing, as do all references; leave out --spacing.")
    scored = tuple(case for case in pairs if case not in failures)
    unit = " or ".join(sorted(units))
    return Evaluation(rows, classes or Classes({}), source, profile, options, unit, scored, failures)


def _evaluate_case(
    case: str,
    pair: tuple[Path, Path],
    classes: Classes | None,
    spacing: Sequence[float] | None,
    rules: Profile,
    options: ScoringOptions,
    reference_key: str,
    scales: list[tuple[str, int]],
) -> tuple[str, bool, list[ClassScore]]:
    """Returns the unit of a case's distances, whether its reference holds a spacing, and its scores.

    A case whose masks share no label since one is 0 and 255 is added to `scales`, with the reference's value.
    """
    prediction = _read(pair[0], PREDICTION_KEY, rules)
    reference = _read(pair[1], reference_key, rules)
    prediction, reference = on_grid(prediction, reference), on_grid(reference, prediction)
    _check_geometry(case, prediction, reference)
    case_spacing, unit = _case_spacing(pair[1], reference, spacing, rules)
    if classes is not None:
        classes.check_values(prediction.pixels, f"The prediction of {case}", with_ignore=False)
        classes.check_values(reference.pixels, f"The reference of {case}", with_ignore=True)
    _note_other_scale(case, prediction, reference, scales)
    case_classes = classes or _own_classes(prediction, reference, rules)
    masks = CaseMasks(prediction.pixels, reference.pixels, case_classes, case_spacing)
    return unit, reference.spacing is not None, _score_case(case, masks, rules, options)


def _sentence(case: str, error: Exception) -> str:
    if isinstance(error, NnsamError):
        return str(error).rstrip(".")
    reason = reason_of(error)
    if isinstance(error, MemoryError):
        return f"{case} needs more memory than there is ({reason})"
    return f"{case}: {type(error).__name__}: {reason}"


def _read(path: Path, key: str, rules: Profile) -> Image:
    if rules.pictures_in_pixels and kind_of(path) == "npz":
        return read_npz_labels(path, key)  # the challenge knows volumes of one slice and measures them as volumes
    return read_labels(path, key)


def _find_classes(
    predictions: Path,
    references: Path,
    dataset_json: str | Path | None,
    pairs: Pairs,
    rules: Profile,
    reference_key: str,
    keep_going: bool,
) -> tuple[Classes | None, str]:
    """The classes that all cases share, None where every case has its own; and where they came from."""
    if rules.own_classes is not None:
        if dataset_json is not None:
            raise InputError("This profile scores the labels 1 to the highest of each reference; leave out --labels.")
        return None, "the labels 1 to the highest one of each reference"
    if reference_key != "gts" and any(kind_of(path) == "npz" for _, path in pairs.values()):
        if dataset_json is not None:
            raise InputError("Objects in npz files have no names; leave out --labels or give --reference-key gts.")
        return None, "the objects of each case"
    if dataset_json is not None:
        return read_classes(dataset_json), str(dataset_json)
    for folder in (predictions, references, references.absolute().parent):
        if (folder / "dataset.json").is_file():
            return read_classes(folder / "dataset.json"), str(folder / "dataset.json")
    found: set[int] = set()
    failures: list[str] = []
    for case, pair in pairs.items():
        for path, key in zip(pair, (PREDICTION_KEY, reference_key), strict=True):
            try:
                found.update(np.unique(_read(path, key, rules).pixels).tolist())
            except Exception as error:  # told when the case is scored
                pass_on_ending()
                if not keep_going:
                    raise
                failures.append(_sentence(case, error))
    classes = classes_from_values(found)
    if not classes.values and failures:
        raise InputError(failures[0])
    if not classes.values:
        raise InputError("All label maps are empty and no dataset.json names the classes; give --labels.")
    return classes, "the values found (no dataset.json)"


def _own_classes(prediction: Image, reference: Image, rules: Profile) -> Classes:
    if rules.own_classes is not None:
        return rules.own_classes(reference.pixels)
    return classes_from_values({int(value) for labels in (prediction, reference) for value in np.unique(labels.pixels)})


def _check_geometry(case: str, prediction: Image, reference: Image) -> None:
    if prediction.shape != reference.shape:
        shapes = f"{prediction.shape} and {reference.shape}"
        raise InputError(f"Case {case}: prediction and reference differ in shape, {shapes}.")
    if prediction.geometry is None or reference.geometry is None:
        return
    for name in prediction.geometry.differences(reference.geometry):
        ours, theirs = getattr(prediction.geometry, name), getattr(reference.geometry, name)
        raise InputError(f"Case {case}: prediction and reference differ in {name}, {ours} and {theirs}.")


_WHITE = 255


def _note_other_scale(case: str, prediction: Image, reference: Image, scales: list[tuple[str, int]]) -> None:
    """Notes a case of which one mask is 0 and 1 and the other 0 and 255, which share no label."""
    ours, theirs = (set(np.unique(labels.pixels).tolist()) - {0} for labels in (prediction, reference))
    if len(ours) == len(theirs) == 1 and ours | theirs == {1, _WHITE}:
        scales.append((case, theirs.pop()))


def _warn_of_other_scale(scales: Sequence[tuple[str, int]], total: int) -> None:
    """Tells once of all those cases."""
    if not scales:
        return
    case, value = scales[0]
    white, other = ("references", "predictions") if value == _WHITE else ("predictions", "references")
    count = f"Case {case}" if total == 1 else f"{len(scales)} of {total} cases (the first: {case})"
    warnings.warn(
        f"{count}: the {white} hold 0 and 255, the {other} 0 and 1, so that they share no label and score 0; write the "
        f"{white} with 0 and 1, in Python: (mask > 0).astype('uint8').",
        NnsamWarning,
        stacklevel=3,
    )


def _case_spacing(
    path: Path, reference: Image, given: Sequence[float] | None, rules: Profile
) -> tuple[tuple[float, ...], str]:
    ndim = reference.dimensions
    if rules.always_in_pixels or (ndim == 2 and rules.pictures_in_pixels):
        if given is not None:
            raise InputError(f"This profile measures {path} in pixels; leave out --spacing.")
        return (1.0,) * ndim, "pixels"
    if reference.spacing is not None:
        return reference.spacing, "mm"  # --spacing is for those without one
    if given is None:
        if ndim == 3:
            raise InputError(f"{path} is a volume without spacing; give --spacing z,y,x.")
        return (1.0, 1.0), "pixels"
    if len(given) != ndim:
        raise InputError(
            f"{path} has {ndim} dimensions, but --spacing holds {len(given)} values; score pictures and volumes that "
            "hold no spacing in folders of their own."
        )
    return tuple(given), "mm"


def _score_case(case: str, masks: CaseMasks, rules: Profile, options: ScoringOptions) -> list[ClassScore]:
    scores = rules.score(masks, options)
    return [
        ClassScore(case, label, int(np.count_nonzero(expected)), int(np.count_nonzero(predicted)), scores[label])
        for label, predicted, expected in masks
    ]
