"""Check the installation: versions, trainers, SAM weights, processor, OpenVINO.

Each line is ok, a note, or a failure with its mend. The exit code is 1 if something that training or prediction
needs is broken. Without PyTorch and nnU-Net only what exported models need is looked at.

Example:
  nnsam doctor
  nnsam doctor --json
  nnUNetv2_train 1 2d 0 -tr nnSAMTrainer -device $(nnsam doctor --device)
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from nnsam.errors import NnsamError
from nnsam.nnunet.folders import NNUNET_FOLDERS
from nnsam.support.installation import how_to_install_all

Level = Literal["ok", "note", "FAIL"]
OK: Level = "ok"
NOTE: Level = "note"
FAIL: Level = "FAIL"
# Modules that exported models and the reading of images need -> what pip calls them.
RUNTIME_MODULES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "PIL": "pillow",
    "tifffile": "tifffile",
    "imagecodecs": "imagecodecs",
    "SimpleITK": "SimpleITK",
    "nibabel": "nibabel",
    "platformdirs": "platformdirs",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: what was looked at.
        level: "ok", "note" (works, but worth knowing) or "FAIL".
        found: what was found.
        mend: what to do about it; empty where nothing is to be done.
    """

    topic: str
    level: Level
    found: str
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument(
        "--device",
        action="store_true",
        help="print nothing but the device to train on, cuda or cpu, for nnU-Net's option -device",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    if args.device:
        from nnsam.support.device import training_device

        print(training_device("auto"))
        return 0
    from nnsam.support.machine import describe_machine
    from nnsam.support.openvino import import_openvino

    with contextlib.suppress(NnsamError):  # the first import decides whether OpenVINO reports it to its makers
        import_openvino()
    findings = list(examine())
    healthy = all(finding.level != FAIL for finding in findings)
    if args.json:
        report = {"healthy": healthy, "findings": [asdict(f) for f in findings], "machine": describe_machine()}
        print(json.dumps(report, indent=1))
    else:
        _print_table(findings)
    return 0 if healthy else 1


def examine() -> Iterator[Finding]:
    """Looks at one thing after the other."""
    if not (_is_installed("torch") or _is_installed("nnunetv2")):
        yield from _runtime_only()
        return
    yield from _versions()
    yield _hook()
    yield _trainers()
    yield _weights()
    yield from _processor()
    yield _folders()
    yield Finding(
        "models of others",
        NOTE,
        "nnUNetv2_predict and nnUNetv2_train run what a model folder names; nnsam's commands check it first",
        "use nnU-Net's own commands on models that you trust, others through `nnsam export`",
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module that was put into sys.modules by hand
        return False


def _runtime_only() -> Iterator[Finding]:
    """What `nnsam predict` and `nnsam segment` need with exported models."""
    from nnsam.support.machine import PACKAGES, describe_machine, package_version

    yield Finding(
        "installation",
        NOTE,
        "runtime-only installation: predict and segment with exported models",
        f"for training and export, which need PyTorch and nnU-Net, {how_to_install_all()}",
    )
    found = {name: package_version(name) for name in PACKAGES}
    yield Finding("versions", OK, ", ".join(f"{name} {version}" for name, version in found.items() if version))
    missing = [package for module, package in RUNTIME_MODULES.items() if not _is_installed(module)]
    if missing:
        mend = f"pip install {' '.join(missing)}"
        yield Finding("packages", FAIL, f"missing: {', '.join(missing)}", mend)
    else:
        yield Finding("packages", OK, "images of all formats can be read")
    machine = describe_machine()
    yield _cpu(machine)
    yield from _openvino(machine, use="")


def _versions() -> Iterator[Finding]:
    from nnsam.errors import SetupError
    from nnsam.support.machine import PACKAGES, package_version
    from nnsam.training.checks import check_versions

    found = ", ".join(f"{name} {package_version(name) or 'missing'}" for name in PACKAGES)
    try:
        check_versions()
    except SetupError as error:
        yield Finding("versions", FAIL, found, str(error))
    else:
        yield Finding("versions", OK, found)


def _hook() -> Finding:
    from nnsam import _autoload

    folder = _autoload.trainer_folder()
    environment = {name: value for name, value in os.environ.items() if name != _autoload.VARIABLE}
    code = f"import os; print(os.environ.get({_autoload.VARIABLE!r}, ''))"
    child = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if folder and folder in child.stdout.strip().split(os.pathsep):
        return Finding("start-up hook", OK, "new processes find the trainers")
    return Finding(
        "start-up hook",
        FAIL,
        "new processes do not get the trainers' folder",
        f"reinstall nnsam, or export {_autoload.VARIABLE}={folder}",
    )


def _trainers() -> Finding:
    from nnsam.nnunet.trainer_names import TRAINERS

    try:
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net tells where it searches
            found = [recursive_find_trainer_class_by_name(name) for name in TRAINERS]
    except Exception as error:  # whatever it is, it belongs into the report
        mend = f"see the line above; where that does not help, {how_to_install_all()} --force-reinstall --no-deps"
        return Finding("trainers", FAIL, f"nnU-Net does not find them: {type(error).__name__}: {error}", mend)
    foreign = [cls.__name__ for cls in found if not cls.__module__.startswith("nnsam.")]
    if foreign:
        mend = "remove the other package's folder from nnUNet_extTrainer"
        return Finding("trainers", NOTE, f"{', '.join(foreign)}: nnU-Net uses another package's trainer", mend)
    return Finding("trainers", OK, f"nnU-Net finds {', '.join(TRAINERS)}")


def _weights() -> Finding:
    from nnsam.weights import status

    state = status()
    if state.problem:
        return Finding("SAM weights", FAIL, state.problem, "see `nnsam weights --help`")
    if state.random:
        return Finding(
            "SAM weights", NOTE, "NNSAM_WEIGHTS=random: encoders are random, not SAM's", "unset NNSAM_WEIGHTS"
        )
    if state.present:
        kind = "official" if state.sha256_ok else "not the official file (fine-tuned?)"
        return Finding("SAM weights", OK if state.sha256_ok else NOTE, f"{kind}: {state.path}")
    if state.found_elsewhere:
        return Finding("SAM weights", NOTE, "not in the cache", f"nnsam weights import {state.found_elsewhere}")
    if state.offline:
        return Finding(
            "SAM weights", FAIL, "absent, and NNSAM_OFFLINE forbids the download", "nnsam weights import FILE"
        )
    return Finding("SAM weights", NOTE, "absent; the first training downloads them (40.7 MB)", "nnsam weights fetch")


def _processor() -> Iterator[Finding]:
    from nnsam.support.machine import describe_machine

    machine = describe_machine()
    yield _cpu(machine)
    if machine["gpu"]:
        yield Finding("GPU", OK, machine["gpu"])
    else:
        mend = "give nnU-Net's commands the option -device cpu; nnsam's own choose by themselves"
        yield Finding("GPU", NOTE, "none that PyTorch can use", mend)
    yield from _openvino(machine, use="CPU training in ")


def _cpu(machine: dict) -> Finding:
    features = ", ".join(machine["cpu_features"]) or "unknown"
    return Finding("processor", OK, f"{machine['processor']}, {machine['cores']} cores; {features}")


def _openvino(machine: dict, *, use: str) -> Iterator[Finding]:
    """OpenVINO's devices; the CPU's quickest precision is told after `use`."""
    devices = machine["openvino_devices"]
    if "CPU" not in devices:
        found = f"no CPU among its devices ({', '.join(devices)})" if devices else "not installed"
        yield Finding("OpenVINO", FAIL, found, 'pip install "openvino>=2025.4"')
    for name, capabilities in devices.items():
        quick = "bfloat16" if "BF16" in capabilities else "float32"
        precision = f"; {use}{quick}" if name == "CPU" and use else ""
        yield Finding(f"OpenVINO {name}", OK, f"{', '.join(sorted(capabilities))}{precision}")


def _folders() -> Finding:
    unset = [name for name in NNUNET_FOLDERS if not os.environ.get(name)]
    if unset:
        return Finding(
            "nnU-Net folders", NOTE, f"not set: {', '.join(unset)}", "export them before using nnU-Net's commands"
        )
    return Finding("nnU-Net folders", OK, ", ".join(f"{name}={os.environ[name]}" for name in NNUNET_FOLDERS))


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    colours = {OK: "green", NOTE: "yellow", FAIL: "bold red"}
    for finding in findings:
        text = finding.found + (f"\n-> {finding.mend}" if finding.mend else "")
        table.add_row(f"[{colours[finding.level]}]{finding.level}[/]", finding.topic, text)
    Console(highlight=False).print(table)
