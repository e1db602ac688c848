"""Makes a study's folder: draws the cases, checks and hashes them, links them into nnU-Net data sets, records all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnsam.datasets.patients import patients_of
from nnsam.errors import InputError
from nnsam.fewshot.study import layout
from nnsam.fewshot.study.cases import CheckedCase, check_case, read_cases, write_cases, write_raw_dataset
from nnsam.fewshot.study.planning import FILE as OPTIONS_FILE
from nnsam.fewshot.study.planning import PlanOptions, check_planner
from nnsam.fewshot.study.protocol import FILE as PROTOCOL_FILE
from nnsam.fewshot.study.protocol import Protocol
from nnsam.fewshot.study.splits import Split, choose_split, draw_subsets
from nnsam.metrics.classes import Classes, read_classes
from nnsam.nnunet.raw_dataset import Source, SourceCase, read_source
from nnsam.support.files import atomic_folder
from nnsam.support.machine import package_version

_PACKAGES = ("nnsam", "nnunetv2", "torch", "numpy")


@dataclass(frozen=True)
class StudyRequest:
    """What a study is to be.

    Attributes:
        sizes: numbers of training cases, ascending.
        seeds: one draw of training cases each.
        rule: "patient", "slice" or "given", see :mod:`nnsam.fewshot.study.splits`.
        validation: number of validation cases; None: all that are given.
        test: number of test cases; None: all that are given.
        split_seed: of the draw of validation and test cases.
        planning: "training" or "all", see :class:`nnsam.fewshot.study.protocol.Protocol`.
        patient_pattern: regular expression that finds the patient in a case's name.
        options: of nnU-Net's planning.
    """

    sizes: Sequence[int]
    seeds: Sequence[int]
    rule: str = "patient"
    validation: int | None = None
    test: int | None = None
    split_seed: int = 0
    planning: str = "training"
    patient_pattern: str | None = None
    options: PlanOptions = field(default_factory=PlanOptions)


@dataclass(frozen=True)
class PreparedStudy:
    """A study's folder.

    Attributes:
        folder: the study's.
        protocol: its record.
        options: of nnU-Net's planning.
        is_new: False where the same study was there already.
        class_cases: (size, seed) -> class -> number of training cases that hold it.
        cases: number of labelled cases that the data set has.
        test_folder_cases: how many of them are in imagesTs; all rules but "given" draw from these, too.
    """

    folder: Path
    protocol: Protocol
    options: PlanOptions
    is_new: bool
    class_cases: Mapping[tuple[int, int], Mapping[str, int]]
    cases: int
    test_folder_cases: int


def prepare(
    source: str | Path,
    experiment: str | Path,
    request: StudyRequest,
    progress: Callable[[list[SourceCase]], Iterable[SourceCase]] = iter,
) -> PreparedStudy:
    """Makes a study's folder; it appears complete or not at all, and the source is only read.

    The layout is that of :mod:`nnsam.fewshot.study.layout`. Files are hard links, or copies where the disk has no
    links. Nothing is planned or preprocessed yet, see :func:`nnsam.fewshot.study.planning.plan_subset`.

    Args:
        source: raw nnU-Net data set.
        experiment: the study's folder; absent, empty, or the same study.
        request: what the study is to be.
        progress: wraps the list of cases to check, for a progress bar.

    Raises:
        InputError: a source that is not sound, too few cases, a patient in two lists of cases, or a folder that holds
            something else, another study included.
    """
    check_planner(request.options.planner)
    experiment = Path(experiment)
    data = read_source(source)
    classes = read_classes(data.folder / "dataset.json")
    patients = patients_of(data.folder, request.patient_pattern)
    split = choose_split(data, patients, request.rule, request.validation, request.test, request.split_seed)
    subsets = draw_subsets(split.pool, request.sizes, request.seeds)
    drawn = {case for subset in subsets.values() for case in subset}
    training = set(split.pool) if request.planning == "all" else drawn
    used = sorted({*training, *split.validation, *split.test})
    checked = {case.name: check_case(case, classes) for case in progress([data.cases[name] for name in used])}
    class_cases = {key: _count_classes(subset, checked, classes) for key, subset in subsets.items()}
    _check_foreground(class_cases)
    counts = len(data.cases), len(data.test)
    protocol = Protocol(
        dataset=str(data.dataset.get("name") or data.folder.name),
        **{key: data.dataset[key] for key in ("file_ending", "channel_names", "labels")},
        rule=request.rule,
        planning=request.planning,
        sizes=tuple(request.sizes),
        seeds=tuple(request.seeds),
        subsets=subsets,
        validation=split.validation,
        test=split.test,
        patients={case: patients[case] for case in used},
        hashes={case: checked[case].sha256 for case in used},
        versions={name: package_version(name) for name in _PACKAGES},
    )
    if (experiment / PROTOCOL_FILE).exists():
        protocol = _same_study(experiment, protocol, request.options)
        return PreparedStudy(experiment, protocol, request.options, False, class_cases, *counts)
    with atomic_folder(experiment) as draft:
        _write(draft, data, split, protocol, request.options)
    return PreparedStudy(experiment, protocol, request.options, True, class_cases, *counts)


def _count_classes(subset: Iterable[str], checked: Mapping[str, CheckedCase], classes: Classes) -> dict[str, int]:
    return {name: sum(name in checked[case].classes for case in subset) for name in classes.values}


def _check_foreground(class_cases: Mapping[tuple[int, int], Mapping[str, int]]) -> None:
    for (size, seed), counts in class_cases.items():
        if not any(counts.values()):
            raise InputError(
                f"the {size} training cases of seed {seed} hold no class but the background, so that nothing can be "
                "learnt from them; ask for larger sizes or other seeds"
            )


def _write(folder: Path, data: Source, split: Split, protocol: Protocol, options: PlanOptions) -> None:
    raw = layout.raw_folder(folder)
    for made in (layout.preprocessed_folder(folder), layout.results_folder(folder)):
        made.mkdir(parents=True)
    for key, subset in protocol.subsets.items():
        names = sorted({*subset, *protocol.validation})
        cases = {name: data.cases[name] for name in names}
        write_raw_dataset(raw / layout.dataset_name(protocol, *key), cases, data.dataset)
    if protocol.planning == "all":
        cases = {name: data.cases[name] for name in sorted({*split.pool, *split.validation})}
        write_raw_dataset(raw / layout.pool_dataset(), cases, data.dataset)
    write_cases(layout.test_folder(folder), "Ts", [data.cases[name] for name in protocol.test], protocol.file_ending)
    options.write(folder, protocol.digest)
    protocol.write(folder)


def _same_study(experiment: Path, wanted: Protocol, options: PlanOptions) -> Protocol:
    """Returns the record of a folder if it is the study that was asked for and its data sets are whole."""
    found = Protocol.read(experiment)
    if found.digest != wanted.digest:
        names = [name for name in wanted.__dataclass_fields__ if name != "versions"]
        different = [name for name in names if getattr(found, name) != getattr(wanted, name)]
        raise InputError(
            f"{experiment} holds another study (its {', '.join(different)} differ); choose another folder, or ask for "
            "the same study"
        )
    if PlanOptions.read(experiment, found.digest) != options:
        raise InputError(
            f"{experiment} holds the same study with another planning ({OPTIONS_FILE}: "
            f"{PlanOptions.read(experiment, found.digest).note}); choose another folder, or ask for the same planning"
        )
    check_experiment(experiment, found)
    return found


def check_experiment(experiment: str | Path, protocol: Protocol) -> None:
    """Checks that a study's data sets are what `prepare` made: names and hashes of all files.

    Raises:
        InputError: a case is missing, changed, or one too many.
    """
    raw = layout.raw_folder(experiment)
    for key, subset in protocol.subsets.items():
        folder = raw / layout.dataset_name(protocol, *key)
        read_cases(folder, "Tr", {*subset, *protocol.validation}, protocol.file_ending, protocol.hashes)
    test = layout.test_folder(experiment)
    read_cases(test, "Ts", protocol.test, protocol.file_ending, protocol.hashes)
