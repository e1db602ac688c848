"""The MobileSAM checkpoint: where it is, fetch it, import a copy, verify a file.

  status  says which weights would be used; exit code 1 only if they are damaged or NNSAM_WEIGHTS names no file
  fetch   downloads the official checkpoint into the cache (40.7 MB; continues a broken download)
  import  copies the official checkpoint from a file into the cache
  verify  checks a file's SHA-256, and that its keys and shapes fit the encoder; exit code 1 if they do not

Environment: NNSAM_HOME cache folder, NNSAM_WEIGHTS path of a checkpoint or `random`, NNSAM_OFFLINE=1 no network,
NNSAM_WEIGHTS_URL mirror; http_proxy, https_proxy and no_proxy are respected.
Example: nnsam weights fetch && nnsam weights verify
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from nnsam.cli.common import add_json, json_report
from nnsam.errors import WeightsError
from nnsam.weights import OFFICIAL, WeightsStatus, fetch, import_file, status
from nnsam.weights.cache import sha256_of
from nnsam.weights.fetching import TIMEOUT_S


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_action(actions, "status", "say which weights would be used", "nnsam weights status --json")
    example = "nnsam weights fetch --mirror https://intranet.example/mobile_sam.pt"
    fetching = _add_action(actions, "fetch", "download the official checkpoint into the cache", example)
    fetching.add_argument(
        "--mirror", metavar="URL", help="address of a copy, used instead of the official ones (also NNSAM_WEIGHTS_URL)"
    )
    fetching.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=TIMEOUT_S,
        help="without data for so long, a server counts as stalled (default: %(default)g)",
    )
    example = "nnsam weights import ~/MobileSAM/weights/mobile_sam.pt"
    importing = _add_action(actions, "import", "copy the official checkpoint from a file into the cache", example)
    importing.add_argument("file", metavar="FILE", type=Path)
    example = "nnsam weights verify my_finetuned_sam.pt"
    verifying = _add_action(actions, "verify", "check a file's SHA-256, keys and shapes", example)
    verifying.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="default: NNSAM_WEIGHTS, else the cached checkpoint"
    )


def _add_action(actions: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    description = f"{summary[0].upper()}{summary[1:]}."
    action = actions.add_parser(name, help=summary, description=description, epilog=f"Example: {example}")
    add_json(action)
    return action


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds between 0 and 86400")
    return value


def run(args: argparse.Namespace) -> int:
    """Runs one action and returns the exit code."""
    if args.action == "status":
        return _status(args.json)
    if args.action == "verify":
        return _verify(args.file, args.json)
    if args.action == "fetch":
        path = fetch(OFFICIAL, mirror=args.mirror, timeout=args.timeout)
    else:
        path = import_file(args.file, OFFICIAL)
    if not _reported(args.json, {"path": str(path), "size": OFFICIAL.size, "sha256": OFFICIAL.sha256}):
        print(f"{path} holds the official checkpoint (SHA-256 checked)")
    return 0


def _reported(json_path: str | None, content: dict[str, Any]) -> bool:
    """Does what --json asks for; returns whether that leaves nothing to print."""
    with json_report(json_path) as report:
        report(json.dumps(content, default=str))
    return json_path == "-"


def _status(json_path: str | None) -> int:
    found = status(OFFICIAL)
    if _reported(json_path, dataclasses.asdict(found)):
        return 1 if found.problem else 0
    print(f"SAM weights: {_summary(found)}")
    print(f"cache:       {found.home}")
    if found.offline:
        print("network:     forbidden by NNSAM_OFFLINE")
    elif found.mirror:
        print(f"mirror:      {found.mirror}")
    if found.partial_size:
        print(f"unfinished:  {found.partial_size:,} of {OFFICIAL.size:,} bytes; `nnsam weights fetch` continues")
    if found.found_elsewhere:
        print(f"hint:        `nnsam weights import {found.found_elsewhere}` would take a copy that is here already")
    if found.problem:
        raise WeightsError(found.problem)
    return 0


def _summary(found: WeightsStatus) -> str:
    if found.random:
        return "random, as NNSAM_WEIGHTS asks for"
    if found.problem:
        return "not usable"
    if not found.present:
        return "none yet (`nnsam weights fetch` downloads them; training would do so by itself)"
    origin = "from NNSAM_WEIGHTS" if found.source == "NNSAM_WEIGHTS" else "in the cache"
    kind = "official checkpoint" if found.sha256_ok else f"not the official checkpoint (SHA-256 {found.sha256})"
    return f"{kind} {origin}, {found.path}"


def _verify(file: Path | None, json_path: str | None) -> int:
    from nnsam.networks.mobile_sam import load_encoder_state

    path = file.expanduser() if file else _configured_file()
    sha256 = sha256_of(path)
    misfit = None
    try:
        load_encoder_state(path)
    except WeightsError as error:
        misfit = str(error)
    official = sha256 == OFFICIAL.sha256
    report = {"path": str(path), "sha256": sha256, "official": official, "fits": misfit is None, "problem": misfit}
    if _reported(json_path, report):
        return 1 if misfit else 0
    print(f"file:    {path}")
    print(f"SHA-256: {sha256} ({'the official checkpoint' if official else 'not the official checkpoint'})")
    print(f"encoder: {'keys and shapes do not fit' if misfit else 'keys and shapes fit'}")
    if misfit:
        raise WeightsError(misfit)
    return 0


def _configured_file() -> Path:
    found = status(OFFICIAL)
    if found.problem:
        raise WeightsError(found.problem)
    if found.path is None:
        raise WeightsError("NNSAM_WEIGHTS is `random`, so there is no file to verify: name one")
    if not found.present:
        raise WeightsError(f"{found.path} is missing: run `nnsam weights fetch`, or name the file to verify")
    return found.path
