"""The report of a study: tables, figures and how to repeat it, as Markdown, LaTeX, HTML and CSV."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nnsam.errors import InputError
from nnsam.fewshot.report.figures import Picture, draw_overall, draw_overlays, draw_structures
from nnsam.fewshot.report.numbers import overall_numbers, structure_numbers, to_csv
from nnsam.fewshot.report.provenance import commands, facts, first_runs, missing_runs
from nnsam.fewshot.report.rendering import HTML, LATEX, MARKDOWN, render
from nnsam.fewshot.report.results import LEGACY_METRICS, METRICS, PROFILES, Results, legacy_results, read_results
from nnsam.fewshot.report.tables import (
    METRIC_NAMES,
    Table,
    empty_masks,
    find_reference,
    list_hashes,
    overall_tables,
    random_note,
    structure_tables,
    times,
)
from nnsam.fewshot.runs.state import DONE
from nnsam.support.files import replaced_folder

_TEXTS = {"report.md": MARKDOWN, "report.tex": LATEX, "report.html": HTML}
FILES = (*_TEXTS, "report.csv")
FIGURES = "figures"


@dataclass(frozen=True)
class ReportOptions:
    """What the user can choose.

    Attributes:
        metrics: of `METRICS`, in the order of the tables.
        profile: "standard", or "legacy" for the rules of the paper's published code.
        reference: method that the others are compared with; None for nnU-Net if it has runs.
        validation: report the validation cases instead of the test cases.
        overlays: number of cases in the pictures; 0 for none.
        allow_mixed_versions: accept runs of different versions.
    """

    metrics: tuple[str, ...] = METRICS
    profile: str = "standard"
    reference: str | None = None
    validation: bool = False
    overlays: int = 3
    allow_mixed_versions: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise InputError(
                f"the metrics are {' '.join(self.metrics)!r}; expected one or several of {', '.join(METRICS)}"
            )
        if self.profile not in PROFILES:
            raise InputError(f"the profile {self.profile!r} is unknown; expected {' or '.join(PROFILES)}")
        if self.profile == "legacy" and not set(self.metrics) & set(LEGACY_METRICS):
            raise InputError(
                f"the legacy profile has {' and '.join(LEGACY_METRICS)} only; ask for one of these metrics"
            )
        if self.profile == "legacy" and self.validation:
            raise InputError("the validation cases have no scores of the legacy profile; leave out --validation")
        if self.overlays < 0:
            raise InputError(f"--overlays is {self.overlays}; expected 0 or more cases")


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        folder: where.
        results: what it is of.
        reference: method that the others are compared with; None: no tests.
        overall: numbers of its first table, see :func:`nnsam.fewshot.report.numbers.overall_numbers`.
    """

    folder: Path
    results: Results
    reference: str | None
    overall: pd.DataFrame


@dataclass(frozen=True)
class _Section:
    title: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = field(default_factory=list)


def write_report(
    experiment: str | Path, output: str | Path | None = None, options: ReportOptions | None = None
) -> Report:
    """Writes report.md, report.tex, report.csv, report.html and figures/*.png; all of them or nothing.

    Args:
        experiment: the study's folder.
        output: folder to write; None for "report" (of validation cases "report_validation") in the study. One that
            holds an earlier report is replaced.
        options: see `ReportOptions`.

    Raises:
        InputError: see `read_results`; an unknown reference; or `output` holds other things than a report.
    """
    options = options or ReportOptions()
    name = "report_validation" if options.validation else "report"
    folder = Path(experiment) / name if output is None else Path(output)
    _check_replaceable(folder)
    results = read_results(experiment, validation=options.validation, allow_mixed_versions=options.allow_mixed_versions)
    reference = find_reference(results, options.reference)
    with replaced_folder(folder) as draft:
        (draft / FIGURES).mkdir()
        numbers, content = _content(results, reference, options, draft / FIGURES)
        for file, form in _TEXTS.items():
            (draft / file).write_text(render(form, **content), encoding="utf-8")
        (draft / "report.csv").write_text(to_csv(pd.concat(numbers)), encoding="utf-8")
    return Report(folder, content["results"], reference, numbers[0])


def _content(
    results: Results, reference: str | None, options: ReportOptions, figures: Path
) -> tuple[list[pd.DataFrame], dict[str, Any]]:
    """The numbers, a table per family of tests, and the variables of report.j2; draws the figures."""
    asked = set(options.metrics) & set(LEGACY_METRICS)
    legacy = legacy_results(results) if asked and results.part == "test" else None
    main = legacy if legacy is not None and options.profile == "legacy" else results
    metrics = [metric for metric in options.metrics if main is results or metric in LEGACY_METRICS]
    overall = overall_numbers(main, metrics, reference)
    numbers = [overall]
    curves = [draw_overall(main, overall, metric, figures) for metric in metrics]
    sections = [_Section("Overall", overall_tables(main, overall), curves)]
    for metric in metrics:
        found = structure_numbers(main, metric, reference)
        numbers.append(found)
        curves = [draw_structures(main, found, metric, figures)]
        sections.append(_Section(f"{METRIC_NAMES[metric]} by structure", structure_tables(main, found), curves))
    sizes = dict.fromkeys((results.sizes[0], results.sizes[-1])) if options.overlays else ()
    drawn = [draw_overlays(results, reference, size, options.overlays, figures) for size in sizes]
    pictures = [picture for picture in drawn if picture is not None]
    sections += [_Section("Examples", (), pictures)] * bool(pictures)
    comparison = None
    if legacy is not None and main is results:
        numbers.append(overall_numbers(legacy, [name for name in metrics if name in LEGACY_METRICS], None))
        comparison = overall_tables(legacy, numbers[-1])[0]
    finished = [run for run in main.runs if run.state == DONE]
    return numbers, {
        "results": main,
        "reference": reference,
        "random_note": random_note(main),
        "missing": missing_runs(main),
        "empty_masks": empty_masks(main),
        "sections": sections,
        "legacy_table": comparison,
        "legacy_rules": legacy and legacy.rules,
        "facts": facts(results),
        "times": times(results),
        "list_hashes": list_hashes(results),
        "first_commands": commands(first_runs(results)),
        "all_commands": commands(finished),
        "finished": len(finished),
    }


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give the name of a folder for the report")
    foreign = _foreign(folder) if folder.is_dir() else []
    if foreign:
        raise InputError(f"{folder} holds {foreign[0]}, which is no part of a report; choose another folder with -o")


def _foreign(folder: Path) -> Sequence[str]:
    names = [path.name for path in folder.iterdir() if path.name not in (*FILES, FIGURES)]
    figures = folder / FIGURES
    inside = figures.iterdir() if figures.is_dir() else ()
    return sorted([*names, *(f"{FIGURES}/{path.name}" for path in inside if path.suffix != ".png")])
