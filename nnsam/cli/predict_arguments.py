"""The options of `nnsam predict`."""

import argparse
from collections.abc import Callable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options."""
    parser.add_argument("bundle", metavar="BUNDLE", help="folder made by `nnsam export`")
    parser.add_argument(
        "-i", "--input", required=True, nargs="+", metavar="IN", help="a folder, or the file or files of one case"
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="a folder; or a file, for one case")
    _add_model_arguments(parser)
    _add_run_arguments(parser)


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=("auto", "f32", "bf16", "int8"),
        default="auto",
        help="auto: the fastest that was found accurate enough at export (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=_whole(0), default=0, metavar="N", help="CPU threads of the network (default: all)"
    )
    parser.add_argument("--folds", nargs="+", metavar="F", help="folds to average (default: all in the bundle)")
    parser.add_argument(
        "--step-size",
        "-step_size",
        type=_step,
        default=None,
        metavar="S",
        help="distance of neighbouring tiles as a share of their size, above 0 and at most 1; larger is quicker and "
        "less accurate (default: the model's, usually 0.5)",
    )
    parser.add_argument(
        "--disable-tta",
        "--disable_tta",
        action="store_true",
        help="do not average over mirrored images: quicker and less accurate",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--save-probabilities",
        "--save_probabilities",
        action="store_true",
        help="write the probabilities too, as case.npz beside the label map",
    )
    parser.add_argument(
        "--continue",
        "--continue_prediction",
        dest="resume",
        action="store_true",
        help="skip the cases that an earlier run has finished",
    )
    parser.add_argument(
        "--cases-in-memory",
        type=_whole(1),
        default=3,
        metavar="N",
        help="cases that are read, computed and written at the same time; 1 needs the least memory (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write seconds per case, precision and machine as JSON; - for standard output"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="spread the cases over a Ray cluster that sees the same files: host:port, or auto for the one that this "
        "machine belongs to, or local for workers on this machine (default: $RAY_ADDRESS, else local)",
    )
    parser.add_argument(
        "--ray-workers",
        type=_whole(1),
        metavar="N",
        help="with --ray: cases at the same time (default: one for every 8 processors)",
    )


def _whole(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}; found {text!r}")
        return int(text)

    return whole


def _step(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and at most 1; found {text!r}")
    return value
