"""Describes the machine that a figure was measured, or a model trained, on."""

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nnsam.errors import SetupError
from nnsam.support.openvino import import_openvino

# The instruction sets that decide how quick networks are on the CPU, as Linux names them.
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
PACKAGES = ("nnsam", "nnunetv2", "torch", "timm", "openvino", "numpy")


def describe_machine(gpu: bool = True) -> dict:
    """Returns processor, its features, cores, OpenVINO's devices, GPU, and versions; values that JSON can hold.

    Args:
        gpu: look for a GPU, which imports PyTorch where that is installed.
    """
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **_processor(),
        "openvino_devices": openvino_devices(),
        "gpu": _gpu() if gpu else None,
        "versions": {name: package_version(name) for name in PACKAGES},
    }


def describe_briefly(device: str) -> dict[str, Any]:
    """Returns system, processor, number of cores, and the GPU where `device` is "cuda"; starts no library."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor()["processor"],
        "cores": os.cpu_count(),
        "gpu": _gpu_of_the_driver() if device == "cuda" else None,
    }


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Returns the versions of Python and of packages, None for those that are absent."""
    return {"python": platform.python_version(), **{name: package_version(name) for name in packages}}


def package_version(name: str) -> str | None:
    """Returns the version of an installed package, None where it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def openvino_devices() -> dict[str, list[str]]:
    """Returns OpenVINO's devices with the precisions and features that they report; empty without OpenVINO."""
    try:
        core = import_openvino().Core()
    except SetupError:
        return {}
    return {name: list(core.get_property(name, "OPTIMIZATION_CAPABILITIES")) for name in core.available_devices}


def _processor() -> dict:
    model, flags = platform.processor() or None, []
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    model = value.strip()
                elif key.strip() == "flags":
                    flags = [flag for flag in CPU_FLAGS if flag in value.split()]
                    break
    except OSError:
        flags = []  # not Linux; OpenVINO's capabilities say what counts
    return {"processor": model, "cpu_features": flags, "cores": os.cpu_count()}


def _gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _gpu_of_the_driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return names[0].strip() if names else None
