"""Draws the cases of a few-shot study and records them; nothing is trained yet.

For every size and seed a training subset is drawn from the pool; the subsets of one seed are nested. Validation and
test cases are the same for all. Every case's files are checked and hashed, and linked into one raw nnU-Net data set per
subset. The data set itself is only read.

--split patient  whole patients go to test, validation or pool (see --patient-regex for how patients are told);
                 they are drawn from all labelled cases, those of imagesTs (with labelsTs) included, so that cases of
                 imagesTs may be trained on; --split given keeps them for the test
--split slice    likewise, but cases are drawn whoever they belong to, as in nnSAM's paper: test scores come out too
                 good, since a patient's slices resemble each other
--split given    imagesTs is the test, fold 0 of splits_final.json gives validation and pool, as
                 `nnsam convert npz-to-nnunet` writes them; --val and --test then draw fewer

--planning training lets nnU-Net plan each subset from its training cases alone; all, from all cases but the test's, as
nnU-Net would. Planning and preprocessing happen in `nnsam fewshot run`, or here with --plan.

The same call again accepts what is there; a folder with another study is refused.

Example:
  nnsam fewshot prepare -d 101 -o study --sizes 4 8 12 16 20 --seeds 5 --val 80 --test 112 --split patient
  nnsam fewshot prepare -d data/Dataset027_ACDC -o study --sizes 4 8 --seeds 3 --split given
"""

import argparse
import json
from typing import TYPE_CHECKING

from nnsam.cli.common import add_json, add_voxel_limit, json_report

if TYPE_CHECKING:
    from nnsam.fewshot.study.prepare import PreparedStudy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this sub-command's options."""
    parser.add_argument(
        "-d",
        "--dataset",
        required=True,
        metavar="RAW",
        help="raw nnU-Net data set: folder, or number or name in $nnUNet_raw",
    )
    parser.add_argument("-o", "--output", required=True, metavar="EXP", help="the study's folder")
    parser.add_argument("--sizes", nargs="+", type=int, required=True, metavar="N", help="numbers of training cases")
    parser.add_argument(
        "--seeds", type=int, default=5, metavar="K", help="draws per size, seeds 0 to K-1 (%(default)s)"
    )
    parser.add_argument("--val", type=int, metavar="N", help="number of validation cases (with --split given: at most)")
    parser.add_argument("--test", type=int, metavar="N", help="number of test cases (with --split given: at most)")
    parser.add_argument(
        "--split",
        choices=("patient", "slice", "given"),
        default="patient",
        help="see above; patient and slice draw from imagesTr and imagesTs together (%(default)s)",
    )
    parser.add_argument(
        "--planning",
        choices=("training", "all"),
        default="training",
        help="cases that nnU-Net plans from (%(default)s)",
    )
    parser.add_argument(
        "--patient-regex",
        "--patient",
        metavar="REGEX",
        help="patient in a case's name: group 1, or all it matched",
    )
    parser.add_argument(
        "--split-seed", type=int, default=0, metavar="S", help="of the draw of validation and test cases (%(default)s)"
    )
    parser.add_argument("--config", default="2d", help="nnU-Net's configuration: 2d or 3d_fullres (%(default)s)")
    parser.add_argument(
        "--planner", default="ExperimentPlanner", help="nnU-Net's planner, e.g. nnUNetPlannerResEncM (%(default)s)"
    )
    parser.add_argument(
        "--patch-size", nargs="+", type=int, metavar="N", help="height and width instead of nnU-Net's; recorded"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="instead of nnU-Net's; recorded")
    parser.add_argument("--plan", action="store_true", help="plan and preprocess all subsets now")
    parser.add_argument(
        "-np", "--np", "--processes", type=int, default=1, metavar="N", help="processes for --plan (%(default)s)"
    )
    add_json(parser)
    add_voxel_limit(parser)


def run(args: argparse.Namespace) -> int:
    """Prepares, plans if asked to, and prints what was made."""
    from nnsam.errors import InputError
    from nnsam.fewshot.study.planning import PlanOptions, plan_subset
    from nnsam.fewshot.study.prepare import StudyRequest, prepare
    from nnsam.nnunet.raw_dataset import find_source

    if args.seeds < 1 or args.np < 1:
        raise InputError(f"found --seeds {args.seeds} --np {args.np}; expected numbers of at least 1")
    patch = None if args.patch_size is None else tuple(args.patch_size)
    request = StudyRequest(
        sizes=tuple(args.sizes),
        seeds=tuple(range(args.seeds)),
        rule=args.split,
        validation=args.val,
        test=args.test,
        split_seed=args.split_seed,
        planning=args.planning,
        patient_pattern=args.patient_regex,
        options=PlanOptions(args.config, args.planner, patch, args.batch_size),
    )
    prepared = prepare(find_source(args.dataset), args.output, request, _bar("Checking"))
    if args.plan:
        for size, seed in _bar("Planning")(sorted(prepared.protocol.subsets)):
            plan_subset(prepared.folder, size, seed, args.np)
    with json_report(args.json) as report:
        report(json.dumps(_summary(prepared), indent=1))
    if args.json != "-":
        _print(prepared)
    return 0


def _bar(title: str):
    """A progress bar where a person watches."""
    from rich.console import Console
    from rich.progress import track

    screen = Console(stderr=True)
    return lambda entries: track(entries, title, console=screen, transient=True, disable=not screen.is_terminal)


def _summary(prepared: "PreparedStudy") -> dict:
    from nnsam.fewshot.study.protocol import subset_name

    protocol = prepared.protocol
    return {
        "folder": str(prepared.folder),
        "is_new": prepared.is_new,
        "digest": protocol.digest,
        "split": protocol.rule,
        "planning": protocol.planning,
        "plans": prepared.options.note,
        "cases": prepared.cases,
        "cases_of_imagesTs": prepared.test_folder_cases,
        "validation": len(protocol.validation),
        "test": len(protocol.test),
        "subsets": {
            subset_name(*key): {
                "cases": len(subset),
                "patients": _patients(protocol, subset),
                "cases_with_class": dict(prepared.class_cases[key]),
            }
            for key, subset in sorted(protocol.subsets.items())
        },
    }


def _patients(protocol, cases) -> int:
    return len({protocol.patients[case] for case in cases})


def _drawn_from(prepared: "PreparedStudy") -> str:
    line = f"Drawn from {prepared.cases} cases"
    if not prepared.test_folder_cases:
        return f"{line}."
    return (
        f"{line}, {prepared.test_folder_cases} of them from imagesTs, which may be trained on (--split given keeps "
        "them for the test)."
    )


def _print(prepared: "PreparedStudy") -> None:
    from rich.markup import escape
    from rich.table import Table

    from nnsam.cli.fewshot.screen import wide_console

    protocol = prepared.protocol
    table = Table(title="Training subsets; of each class, the number of training cases that hold it")
    classes = list(next(iter(prepared.class_cases.values())))
    for name in ("size", "seed", "patients", *map(escape, classes)):
        table.add_column(name, justify="right")
    absent = []
    for (size, seed), subset in sorted(protocol.subsets.items()):
        counts = prepared.class_cases[size, seed]
        table.add_row(*map(str, (size, seed, _patients(protocol, subset), *counts.values())))
        absent += [f"{name} in size {size} seed {seed}" for name, count in counts.items() if not count]
    console = wide_console()
    console.print(table)
    lines = [_drawn_from(prepared)] if protocol.rule != "given" else []
    lines += [
        f"{name}: {len(cases)} cases of {_patients(protocol, cases)} patients."
        for name, cases in (("Validation", protocol.validation), ("Test", protocol.test))
    ]
    if absent:
        lines.append(f"Classes without a training case, which cannot be learnt there: {', '.join(absent)}.")
    if protocol.rule == "slice":
        lines.append("Cases were drawn whoever they belong to: patients may be in training and test (--split slice).")
    source = "the training cases alone" if protocol.planning == "training" else "all cases but the test's"
    lines.append(f"nnU-Net plans from {source}: {prepared.options.note}.")
    state = "" if prepared.is_new else " (was there already, unchanged)"
    lines.append(f"{prepared.folder}: {len(protocol.subsets)} subsets, protocol {protocol.digest[:12]}{state}.")
    lines.append(f"Next: nnsam fewshot run {prepared.folder} --methods ...")
    console.print("\n".join(lines), markup=False, soft_wrap=True)
