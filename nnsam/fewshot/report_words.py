"""Names, units and marks that tables, figures and text share."""

from collections.abc import Sequence

from nnsam.errors import InputError
from nnsam.fewshot.report_runs import has_random_sam
from nnsam.fewshot.results import STOCK_METHODS, Results

METRIC_NAMES = {"dice": "Dice", "asd": "ASD", "nsd": "NSD", "hd95": "HD95"}
RANDOM_MARK = "†"
# Their encoder is random on purpose, a control.
_RANDOM_BY_DESIGN = "RandomEncoder"


def metric_title(results: Results, metric: str) -> str:
    """Name with unit, e.g. "Dice (%)"."""
    return f"{METRIC_NAMES[metric]} ({results.metric_unit(metric)})"


def is_higher_better(metric: str) -> bool:
    """Dice and NSD: yes; distances: no."""
    return metric in ("dice", "nsd")


def method_label(results: Results, method: str) -> str:
    """The method's name, marked if a run of it used random SAM weights."""
    return f"{method} {RANDOM_MARK}" if random_runs(results, method) else method


def random_runs(results: Results, method: str) -> list[str]:
    """Names of the method's runs that used random SAM weights."""
    return [str(run.key) for run in results.runs if run.key.method == method and has_random_sam(run)]


def random_note(results: Results, methods: Sequence[str] | None = None) -> str:
    """What the mark means and whom of some methods (None: of all) it concerns; empty if nobody."""
    parts = []
    for method in results.methods if methods is None else methods:
        marked, all_runs = random_runs(results, method), [run for run in results.runs if run.key.method == method]
        if not marked:
            continue
        some = "" if len(marked) == len(all_runs) else f" in {len(marked)} of {len(all_runs)} runs: {', '.join(marked)}"
        parts.append(f"{method}{' (by design, a control)' if _RANDOM_BY_DESIGN in method else ''}{some}")
    if not parts:
        return ""
    return (
        f"{RANDOM_MARK} The frozen SAM encoder had random weights, not SAM's: {'; '.join(parts)}. "
        "Such scores say nothing about what SAM's weights do."
    )


def format_p(p: float) -> str:
    """A p value for a table."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def find_reference(results: Results, wanted: str | None) -> str | None:
    """The method that others are compared with.

    Args:
        results: the study's.
        wanted: its name, or None for nnU-Net if it is among the methods.

    Returns:
        A method, or None if none was asked for and nnU-Net has no runs.

    Raises:
        InputError: no runs of the wanted method.
    """
    if wanted is None:
        return next((name for name in STOCK_METHODS if name in results.methods), None)
    if wanted not in results.methods:
        raise InputError(f"there are no runs of the reference method {wanted}; there are {', '.join(results.methods)}")
    return wanted
