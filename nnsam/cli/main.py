"""Entry point of the `nnsam` command: dispatch, error messages and exit codes.

Exit codes: 0 done, 1 failed (one sentence on standard error says why), 2 wrong usage, 130 interrupted (Ctrl-C), 143
terminated (SIGTERM).
"""

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nnsam import __version__
from nnsam.cli.common import prepare_streams, told_warnings, unbroken_output
from nnsam.cli.parser import CommandParser
from nnsam.errors import NnsamError
from nnsam.io.limits import allowing_voxels
from nnsam.nnunet.folders import unset_variable, unset_variable_of_output
from nnsam.support.concurrency import INTERRUPTED, TERMINATED, Terminated, terminable, uninterrupted
from nnsam.support.drafts import DISK_FULL, remove_stale_drafts
from nnsam.support.installation import how_to_install_all
from nnsam.support.text import clipped

# name -> (module, one line of help). Modules are imported only when their command is called, so that `nnsam --help`
# stays quick; the modules in turn import torch and the like inside `run`.
COMMANDS = {
    "doctor": ("nnsam.cli.doctor", "check the installation: nnU-Net, trainers, SAM weights, CPU features, OpenVINO"),
    "demo": ("nnsam.cli.demo", "train, predict, export and evaluate nnSAM on a small phantom data set, offline"),
    "weights": ("nnsam.cli.weights", "status, fetch, import or verify the MobileSAM checkpoint"),
    "warm-start": ("nnsam.cli.warm_start", "turn an nnU-Net checkpoint into a starting point for nnSAM training"),
    "convert": ("nnsam.cli.convert", "turn data sets in other layouts into raw nnU-Net data sets"),
    "plan-box": ("nnsam.cli.plan_box", "plan box-prompt training for a raw nnU-Net data set"),
    "box-train": ("nnsam.cli.box_train", "from images and masks to a box-prompt model in a bundle, in one command"),
    "export": ("nnsam.cli.export", "turn a trained model into a bundle that runs on CPUs without PyTorch and nnU-Net"),
    "predict": ("nnsam.cli.predict", "segment images with an exported model, on the CPU, without PyTorch"),
    "segment": (
        "nnsam.cli.segment",
        "segment the objects in given boxes: pictures, volumes, folders, challenge npz",
    ),
    "evaluate": ("nnsam.cli.evaluate", "Dice and surface distances of predictions against references"),
    "fewshot": ("nnsam.cli.fewshot.command", "a study with few training cases: prepare, run, status, report"),
    "completion": ("nnsam.cli.completion", "a script for the tab key of bash, zsh or tcsh"),
    "bench": ("nnsam.cli.bench", "measure speed as ratios, side by side in one process"),
}

# What an installation for exported models alone lacks, see README.
FULL_INSTALLATION = {
    *("torch", "torchvision", "timm", "nnunetv2", "batchgenerators"),
    *("matplotlib", "pandas", "jinja2", "requests", "filelock"),
}


def build_parser(*commands: str | None) -> argparse.ArgumentParser:
    """Builds the parser; only the modules of these commands are imported."""
    parser = CommandParser(
        prog="nnsam",
        description="Segment Anything encoders, level-set heads and box prompts for nnU-Net v2.",
        epilog="Training and prediction use nnU-Net's own commands, e.g.: nnUNetv2_train 1 2d 0 -tr nnSAMTrainer",
    )
    parser.add_argument("--version", action="version", version=f"nnsam {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module_name, summary) in COMMANDS.items():
        if name not in commands:
            subparsers.add_parser(name, help=summary, add_help=False)
            continue
        module = importlib.import_module(module_name)
        subparser = subparsers.add_parser(name, help=summary, description=(module.__doc__ or summary).strip())
        module.add_arguments(subparser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    prepare_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    if "" in argv:
        print("nnsam: an argument is empty; is a variable of the shell unset?", file=sys.stderr)
        return 1
    for problem in filter(None, (unset_variable(word.rpartition("=")[2]) for word in argv)):
        print(f"nnsam: {problem}", file=sys.stderr)
        return 1
    command = next((word for word in argv if not word.startswith("-")), None)
    args = build_parser(command).parse_args(argv)
    for problem in filter(None, map(unset_variable_of_output, _outputs(args))):
        print(f"nnsam {args.command}: {problem}", file=sys.stderr)
        return 1
    with unbroken_output():
        return _run(args)


def _outputs(args: argparse.Namespace) -> list[str]:
    """The paths of files and folders that a command is to make."""
    given = (getattr(args, name, None) for name in ("output", "out", "work", "json", "csv"))
    return [str(path) for path in given if isinstance(path, str | Path)]


# Longer messages repeat what they are about.
_MESSAGE = 4000


def _sentence(error: NnsamError) -> str:
    text = str(error)
    return text if len(text) <= _MESSAGE else clipped(text, _MESSAGE)


def _about_the_machine(error: OSError | MemoryError) -> str:
    """What the operating system refused: a full or read-only disk, rights, a name that is too long, memory."""
    if isinstance(error, MemoryError):
        return f"this needs more memory than there is ({clipped(str(error)) or 'none is left'}); give smaller images"
    name = "a file" if error.filename is None else clipped(os.fsdecode(error.filename))
    if error.errno in DISK_FULL:
        return f"{name} cannot be written: the disk is full; free space"
    reason = clipped(error.strerror or str(error) or type(error).__name__)
    return f"{name} cannot be used ({reason}); check the path, the rights and the space on the disk"


def _run(args: argparse.Namespace) -> int:
    try:
        with told_warnings(args.command), allowing_voxels(getattr(args, "max_voxels", None)), terminable():
            with suppress(OSError):  # no place for temporary files at all
                with uninterrupted():  # it makes a file to find out
                    place = Path(tempfile.gettempdir())
                remove_stale_drafts(place)  # which may hold patients' images
            return int(importlib.import_module(COMMANDS[args.command][0]).run(args))
    except NnsamError as error:
        if os.environ.get("NNSAM_TRACEBACK"):
            raise
        print(f"nnsam {args.command}: {_sentence(error)}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if os.environ.get("NNSAM_TRACEBACK") or (error.name or "").split(".")[0] not in FULL_INSTALLATION:
            raise
        print(
            f"nnsam {args.command}: this command needs the full installation, and {error.name} is not installed; "
            f"{how_to_install_all()}",
            file=sys.stderr,
        )
        return 1
    except (OSError, MemoryError) as error:
        if os.environ.get("NNSAM_TRACEBACK"):
            raise
        print(f"nnsam {args.command}: {_about_the_machine(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        print(f"nnsam {args.command}: {'terminated' if terminated else 'interrupted'}", file=sys.stderr)
        return TERMINATED if terminated else INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
