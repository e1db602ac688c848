"""OpenVINO: imported without its telemetry, and the precisions that this CPU computes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from nnsam.errors import InputError, SetupError
from nnsam.support.text import shown

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Returns the `openvino` module, without telemetry where nobody has imported it before.

    Raises:
        SetupError: it is not installed, or cannot be loaded.
    """
    try:
        with no_telemetry():
            import openvino
    except ModuleNotFoundError:
        raise SetupError('OpenVINO is not installed; install it with: pip install "openvino>=2025.4"') from None
    except ImportError as error:
        raise SetupError(f"OpenVINO cannot be loaded ({error}); install it again") from None
    return openvino


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Hides the package `openvino_telemetry` from what is imported in the block, unless it has been imported before."""
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(_TELEMETRY, None)


# What this package computes in; a user may also leave the choice to it.
COMPUTED = ("f32", "bf16", "int8")
PRECISIONS = ("auto", *COMPUTED)
# What --precision takes: PyTorch's names, too.
SPELLINGS = (*PRECISIONS, "float32", "bfloat16")
_ALIASES = {"float32": "f32", "fp32": "f32", "bfloat16": "bf16"}
# OpenVINO's names of what a CPU can do.
_CAPABILITIES = {"FP32": "f32", "BF16": "bf16", "INT8": "int8"}


@lru_cache(maxsize=1)
def cpu_precisions() -> frozenset[str]:
    """Returns which of "f32", "bf16" and "int8" this CPU computes, as OpenVINO reports it.

    Raises:
        SetupError: OpenVINO is not installed.
    """
    found = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return frozenset({"f32"} | {_CAPABILITIES[name] for name in found if name in _CAPABILITIES})


def has_bfloat16() -> bool:
    """Tells whether this CPU computes in bfloat16 (AVX-512 BF16 or AMX); False without OpenVINO."""
    try:
        return "bf16" in cpu_precisions()
    except SetupError:
        return False


def check_precision(name: str) -> str:
    """Returns one of :data:`PRECISIONS`; also takes the names float32, fp32 and bfloat16.

    Raises:
        InputError: unknown name.
    """
    known = _ALIASES.get(str(name).lower(), str(name).lower())
    if known not in PRECISIONS:
        raise InputError(f"the precision {name!r} is unknown; expected {', '.join(PRECISIONS)}")
    return known


MOST_THREADS = 4096


def check_threads(threads: int) -> None:
    """Refuses what is no number of threads.

    Raises:
        InputError: no whole number, or a negative one.
    """
    if not isinstance(threads, int) or not 0 <= threads <= MOST_THREADS:
        raise InputError(
            f"the number of threads is {shown(threads)}; expected 1 to {MOST_THREADS}, or 0 for the library's choice"
        )


def compile_hint(precision: str) -> str:
    """Returns OpenVINO's precision hint; it computes in bf16 unasked where the CPU can, so that f32 has to be said.

    In int8 the hint is for the layers that are not quantised.
    """
    if precision == "int8":
        return "bf16" if "bf16" in cpu_precisions() else "f32"
    return precision
