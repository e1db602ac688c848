"""Studies with few training cases: from a raw nnU-Net data set to tables with intervals and tests.

prepare  draws training, validation and test cases and records them
run      trains, predicts and scores every method on every training subset; goes on where it was stopped
status   says how far the runs are
report   tables, learning curves and pictures

Example:
  nnsam fewshot prepare -d Dataset101_Hearts -o study --sizes 4 8 12 16 20 --seeds 5 --val 80 --test 112
  nnsam fewshot run study --methods nnUNetTrainer nnSAMTrainer
  nnsam fewshot report study
"""

import argparse
import importlib

# sub-command -> (module, one line of help). The modules import torch and the like inside `run` only.
COMMANDS = {
    "prepare": ("nnsam.cli.fewshot.prepare", "draw training, validation and test cases and record them"),
    "run": ("nnsam.cli.fewshot.run", "train, predict and score; goes on where it was stopped"),
    "status": ("nnsam.cli.fewshot.status", "how far the runs are"),
    "report": ("nnsam.cli.fewshot.report", "tables, learning curves and pictures"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one sub-command each, with the options that its module adds."""
    subparsers = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (module_name, summary) in COMMANDS.items():
        module = importlib.import_module(module_name)
        subparser = subparsers.add_parser(name, help=summary, description=(module.__doc__ or summary).strip())
        module.add_arguments(subparser)


def run(args: argparse.Namespace) -> int:
    """Runs the chosen sub-command."""
    return int(importlib.import_module(COMMANDS[args.action][0]).run(args))
