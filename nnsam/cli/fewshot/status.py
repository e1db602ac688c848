"""Shows how far the runs of a few-shot study are.

Example:
  nnsam fewshot status study
"""

import argparse
import json
from typing import TYPE_CHECKING

from nnsam.cli.common import add_json, json_report

if TYPE_CHECKING:
    from nnsam.fewshot.runs.state import RunKey, RunState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this sub-command's options."""
    parser.add_argument("experiment", metavar="EXP", help="the study's folder")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the table of states, or JSON."""
    from pathlib import Path

    from nnsam.cli.fewshot.screen import state_table, wide_console
    from nnsam.fewshot.runs.execution import is_running
    from nnsam.fewshot.runs.state import find_runs
    from nnsam.fewshot.study.protocol import Protocol

    experiment = Path(args.experiment)
    protocol = Protocol.read(experiment)
    runs = find_runs(experiment, protocol)
    running = {
        key for key, state in runs.items() if state.state not in ("done", "failed") and is_running(experiment, key)
    }
    with json_report(args.json) as report:
        content = {"protocol": protocol.digest, "runs": [_summary(runs[key], key in running) for key in runs]}
        report(json.dumps(content, indent=1))
    if args.json == "-":
        return 0
    if not runs:
        print(f"No run was started; start them with: nnsam fewshot run {args.experiment} --methods ...")
        return 0
    keys = _all_keys(runs, protocol.sizes, protocol.seeds)
    console = wide_console()
    console.print(state_table(keys, {key: runs.get(key) for key in keys}, running))
    for key, state in runs.items():
        if state.state == "failed":
            console.print(f"{key} failed: {state.error}", markup=False, soft_wrap=True)
    hours = sum(sum(state.seconds.values()) for state in runs.values()) / 3600
    done = sum(state.state == "done" for state in runs.values())
    console.print(f"{done} of {len(keys)} runs are done; {hours:.2f} hours of computing so far.", markup=False)
    return 0


def _all_keys(runs: "dict[RunKey, RunState]", sizes: tuple[int, ...], seeds: tuple[int, ...]) -> "list[RunKey]":
    from nnsam.fewshot.runs.state import RunKey

    methods = dict.fromkeys(key.method for key in runs)
    return [RunKey(method, size, seed) for method in methods for size in sizes for seed in seeds]


def _summary(state: "RunState", running: bool) -> dict:
    return {
        "method": state.key.method,
        "size": state.key.size,
        "seed": state.key.seed,
        "state": state.state,
        "running": running,
        "attempts": state.attempts,
        "seconds": state.seconds,
        "budget": state.budget,
        "error": state.error,
    }
