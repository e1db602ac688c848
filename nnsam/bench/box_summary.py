"""Means of box-prompt scores: over the objects of a case, the cases of a set, the sets."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# One object by one method: set, case, object, method, unit, large, seconds, passes, DSC, NSD.
Row = dict[str, Any]
SCORES = ("DSC", "NSD")
# Sets of so few cases say little; counts of sets leave them out.
FEW_CASES = 2


def summarize_rows(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, Any]:
    """The part of `evaluate_sets`'s result that comes from the scores; see there."""
    sets = {name: _summarize_set(chosen, methods) for name, chosen in group(rows, "set").items()}
    larger = {name: entry for name, entry in sets.items() if entry["cases"] > FEW_CASES}
    large = [row for row in rows if row["large"]]
    return {
        "modes": list(methods),
        "sets": sets,
        "mean": {method: _mean_of_sets(sets, method) for method in methods},
        f"mean_of_sets_above_{FEW_CASES}": {method: _mean_of_sets(larger, method) for method in methods},
        "above_ellipse": _above_ellipse(larger, methods),
        "zoom_below_faithful": _zoom_below_faithful(sets, methods),
        "larger_than_patch": {
            "objects": len(large) // len(methods),
            "modes": {method: _mean_scores(chosen) for method, chosen in group(large, "method").items()},
        },
        "passes_per_box": {
            method: mean_of_defined(row["passes"] for row in chosen) for method, chosen in group(rows, "method").items()
        },
    }


def group(rows: Iterable[Row], key: str) -> dict[Any, list[Row]]:
    """Rows by the value of one column, in order of appearance."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def mean_of_defined(values: Iterable[float | None]) -> float | None:
    """Mean without nan and None; None, JSON's null, if nothing is left."""
    defined = [value for value in values if value is not None and not math.isnan(value)]
    return sum(defined) / len(defined) if defined else None


def _summarize_set(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, Any]:
    cases = group(rows, "case")
    scores = {
        case: {method: _mean_scores(found) for method, found in group(chosen, "method").items()}
        for case, chosen in cases.items()
    }
    by_method = group(rows, "method")
    return {
        "cases": len(cases),
        "objects": len(rows) // len(methods),
        "larger_than_patch": sum(row["large"] for row in rows) // len(methods),
        "unit": " or ".join(sorted({row["unit"] for row in rows})),
        "modes": {
            method: {
                **{name: mean_of_defined(scores[case][method][name] for case in cases) for name in SCORES},
                "seconds": mean_of_defined(row["seconds"] for row in by_method[method]),
                "passes": mean_of_defined(row["passes"] for row in by_method[method]),
            }
            for method in methods
        },
        "case_scores": scores,
    }


def _mean_scores(rows: Sequence[Row]) -> dict[str, float | None]:
    return {name: mean_of_defined(row[name] for row in rows) for name in SCORES}


def _mean_of_sets(sets: dict[str, dict], method: str) -> dict[str, float | None]:
    return {name: mean_of_defined(entry["modes"][method][name] for entry in sets.values()) for name in SCORES}


def _above_ellipse(sets: dict[str, dict], methods: Sequence[str]) -> dict[str, dict[str, int]]:
    """Method -> on how many sets its DSC is above the ellipse's, and of how many; empty without the ellipse."""
    if "ellipse" not in methods:
        return {}

    def above(method: str) -> Callable[[dict], bool]:
        return lambda entry: entry["modes"][method]["DSC"] > entry["modes"]["ellipse"]["DSC"]

    others = [method for method in methods if method != "ellipse"]
    return {method: {"sets": sum(map(above(method), sets.values())), "of": len(sets)} for method in others}


def _zoom_below_faithful(sets: dict[str, dict], methods: Sequence[str]) -> dict[str, Any] | None:
    """The set on which zoom's DSC is lowest compared with faithful's, and by how much; negative: it is above."""
    if not {"zoom", "faithful"} <= set(methods) or not sets:
        return None
    below = {name: entry["modes"]["faithful"]["DSC"] - entry["modes"]["zoom"]["DSC"] for name, entry in sets.items()}
    worst = max(below, key=lambda name: below[name])
    return {"set": worst, "DSC": below[worst]}
