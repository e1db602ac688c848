"""Which number format the networks of a bundle are computed in."""

from functools import lru_cache

from nnsam.errors import InputError, SetupError
from nnsam.runtime.bundle import Bundle
from nnsam.runtime.openvino_import import import_openvino

PRECISIONS = ("auto", "f32", "bf16", "int8")
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


def check_precision(name: str) -> str:
    """Returns one of :data:`PRECISIONS`; also takes the names float32, fp32 and bfloat16.

    Raises:
        InputError: unknown name.
    """
    known = _ALIASES.get(str(name).lower(), str(name).lower())
    if known not in PRECISIONS:
        raise InputError(f"the precision {name!r} is unknown; expected {', '.join(PRECISIONS)}")
    return known


def bundle_precisions(bundle: Bundle) -> tuple[str, ...]:
    """Returns the precisions that a bundle has networks for, whatever the CPU: f32 and bf16 share theirs."""
    folds = bundle.manifest["networks"]["folds"]
    return ("f32", "bf16", "int8") if folds and all(fold.get("int8") for fold in folds) else ("f32", "bf16")


def choose_precision(bundle: Bundle, wanted: str = "auto") -> tuple[str, str]:
    """Chooses the precision to compute a bundle in.

    Args:
        bundle: the model.
        wanted: "auto" takes what was found best at export, and float32 where this CPU does not compute that.

    Returns:
        "f32", "bf16" or "int8", and a sentence where "auto" fell back, else "".

    Raises:
        InputError: unknown precision, or int8 where the bundle has no int8 network.
        SetupError: a precision that this CPU does not compute, or OpenVINO is missing.
    """
    wanted = check_precision(wanted)
    available = bundle_precisions(bundle)
    if wanted == "auto":
        best = check_precision(bundle.manifest.get("precision", {}).get("auto", "f32"))
        if best in available and best in cpu_precisions():
            return best, ""
        return "f32", f"computed in f32, since this CPU has no {best} instructions, which the model was exported for"
    if wanted not in available:
        raise InputError(
            f"{bundle.folder} has no {wanted} network; it has {', '.join(available)}: choose one of them, or export "
            "the model again with images to calibrate on"
        )
    if wanted not in cpu_precisions():
        raise SetupError(f"this CPU has no {wanted} instructions; choose the precision f32")
    return wanted, ""


def compile_hint(precision: str) -> str:
    """Returns OpenVINO's precision hint; it computes in bf16 unasked where the CPU can, so that f32 has to be said.

    In int8 the hint is for the layers that are not quantised.
    """
    if precision == "int8":
        return "bf16" if "bf16" in cpu_precisions() else "f32"
    return precision
