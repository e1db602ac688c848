"""What a run was made on, found without importing PyTorch: a run should not take longer because it is described."""

import os
import platform
import subprocess
from typing import Any

from nnsam.support.machine import package_version

PACKAGES = ("nnsam", "nnunetv2", "torch", "numpy", "timm", "monai")


def versions() -> dict[str, str | None]:
    """Versions of the packages that a run depends on, and of Python."""
    return {"python": platform.python_version(), **{name: package_version(name) for name in PACKAGES}}


def machine(device: str) -> dict[str, Any]:
    """System, processor, number of cores, and the GPU where one is used."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": _gpu() if device == "cuda" else None,
    }


def _processor() -> str | None:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or None


def _gpu() -> str | None:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return names[0].strip() if names else None
