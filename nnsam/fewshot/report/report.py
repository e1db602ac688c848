"""The report of a study: tables, figures and how to repeat it, as Markdown, LaTeX, HTML and CSV."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nnsam.errors import InputError
from nnsam.fewshot.report.csv import to_csv
from nnsam.fewshot.report.document import Block, Heading, Paragraph
from nnsam.fewshot.report.estimates import TableNumbers, overall_numbers, structure_numbers
from nnsam.fewshot.report.figures import draw_overall, draw_overlays, draw_structures
from nnsam.fewshot.report.html import to_html
from nnsam.fewshot.report.latex import to_latex
from nnsam.fewshot.report.markdown import to_markdown
from nnsam.fewshot.report.provenance import case_counts, completeness, provenance, split_blocks
from nnsam.fewshot.report.results import LEGACY_METRICS, METRICS, Results, legacy_results, read_results
from nnsam.fewshot.report.tables import METRIC_NAMES, find_reference, overall_tables, random_note, structure_tables
from nnsam.support.files import atomic_folder

FILES = ("report.md", "report.tex", "report.csv", "report.html")
FIGURES = "figures"
_PROFILES = ("standard", "legacy")


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
        if self.profile not in _PROFILES:
            raise InputError(f"the profile {self.profile!r} is unknown; expected {' or '.join(_PROFILES)}")
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
        overall: numbers of its first table.
    """

    folder: Path
    results: Results
    overall: TableNumbers


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
    with _replacing(folder) as draft:
        overall = _write(results, reference, options, draft)
    return Report(folder, results, overall)


def _write(results: Results, reference: str | None, options: ReportOptions, folder: Path) -> TableNumbers:
    figures = folder / FIGURES
    figures.mkdir()
    asked = set(options.metrics) & set(LEGACY_METRICS)
    legacy = legacy_results(results) if asked and results.part == "test" else None
    main = legacy if legacy is not None and options.profile == "legacy" else results
    metrics = [metric for metric in options.metrics if main is results or metric in LEGACY_METRICS]
    overall = overall_numbers(main, metrics, reference)
    by_structure = {metric: structure_numbers(main, metric, reference) for metric in metrics}
    tables = [(main, numbers) for numbers in (overall, *by_structure.values())]
    blocks = _opening(main, reference)
    blocks += [Heading(2, "Overall"), *overall_tables(main, overall)]
    blocks += [draw_overall(main, overall, metric, figures) for metric in metrics]
    for metric, numbers in by_structure.items():
        blocks += [Heading(2, f"{METRIC_NAMES[metric]} by structure"), *structure_tables(main, numbers)]
        blocks.append(draw_structures(main, numbers, metric, figures))
    blocks += _pictures(results, reference, options.overlays, figures)
    if legacy is not None and main is results:
        comparison = overall_numbers(legacy, [name for name in metrics if name in LEGACY_METRICS], None)
        blocks += _legacy(legacy, comparison)
        tables.append((legacy, comparison))
    blocks += provenance(results)
    for name, text in zip(FILES, (to_markdown(blocks), to_latex(blocks), to_csv(tables), to_html(blocks)), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    return overall


def _opening(results: Results, reference: str | None) -> list[Block]:
    part = "validation cases" if results.part == "validation" else "test cases"
    blocks: list[Block] = [Heading(1, f"Few-shot study on {results.protocol.dataset}: {part}")]
    if results.part == "validation":
        text = "These are scores of validation cases, made for choices. They are no estimate for new cases."
        blocks.append(Paragraph(text, is_warning=True))
    if results.rules.profile == "legacy":
        text = "The legacy profile's scores flatter methods that miss structures; for comparison with the paper only."
        blocks.append(Paragraph(text, is_warning=True))
    blocks += split_blocks(results)
    note = random_note(results)
    if note:
        blocks.append(Paragraph(note, is_warning=True))
    if reference is None and len(results.methods) > 1:
        blocks.append(Paragraph("There are no paired tests: nnU-Net has no runs; choose another `--reference`."))
    return [*blocks, *completeness(results), Heading(2, "Cases and empty masks"), *case_counts(results)]


def _pictures(results: Results, reference: str | None, count: int, figures: Path) -> list[Block]:
    if not count:
        return []
    sizes = dict.fromkeys((results.sizes[0], results.sizes[-1]))
    drawn = [draw_overlays(results, reference, size, count, figures) for size in sizes]
    pictures = [picture for picture in drawn if picture is not None]
    return [Heading(2, "Examples"), *pictures] if pictures else []


def _legacy(results: Results, numbers: TableNumbers) -> list[Block]:
    if not numbers.metrics:
        return []
    text = (
        "For comparison with the paper only, not for conclusions: the legacy profile scores a structure that was "
        f"missed altogether with ASD 0, the best there is. Here: {results.rules.policy}; distances in "
        f"{results.rules.unit}."
    )
    mean_table = overall_tables(results, numbers)[0]
    return [Heading(2, "Legacy profile"), Paragraph(text, is_warning=True), mean_table]


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


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """As `atomic_folder`, but for a folder that may hold an earlier report, which stays until the new one is there."""
    folder = folder.absolute()
    new = folder.with_name(f".{os.getpid()}.{folder.name}.new")
    old = folder.with_name(f".{os.getpid()}.{folder.name}.old")
    try:
        with atomic_folder(new) as draft:
            yield draft
        if folder.is_dir():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError as error:
            if old.is_dir():
                os.replace(old, folder)
            raise InputError(f"{folder} cannot be written ({error.strerror or error})") from error
    finally:
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
