"""The exported model: a folder of OpenVINO networks and `bundle.json`, which says everything else that is needed.

Read here without PyTorch and nnU-Net; written by :mod:`nnsam.exporting`. Every file is named in `bundle.json` with its
SHA-256, and `bundle.json` carries the SHA-256 of its own content, so that nothing damaged or edited is ever used.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, SetupError
from nnsam.support import openvino
from nnsam.support.drafts import recover
from nnsam.support.files import read_json, sha256_of_file, write_json
from nnsam.support.openvino import check_precision

MANIFEST = "bundle.json"
FORMAT = "nnsam-bundle"
# Raised when a bundle of this version would be misread by an older nnsam.
FORMAT_VERSION = 1
KINDS = ("automatic", "box")


@dataclass(frozen=True)
class Bundle:
    """An exported model.

    Attributes:
        folder: where it is.
        manifest: content of `bundle.json`; its sections are described in :mod:`nnsam.exporting.manifest`.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Returns "automatic" (segments images) or "box" (segments what lies in boxes)."""
        return self.manifest["kind"]

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which names those of all files: the bundle's identity."""
        return self.manifest["digest"]

    def path(self, name: str) -> Path:
        """Returns the path of one of the bundle's files."""
        return self.folder / name

    @classmethod
    def open(cls, folder: "str | Path | Bundle", kind: str | None = None) -> "Bundle":
        """Opens a bundle and checks every file in it.

        Args:
            folder: made by `nnsam export`; or a bundle that has been opened, whose files are not checked again.
            kind: "automatic" or "box" where only one will do.

        Raises:
            InputError: no bundle, one of a newer version, of the other kind, or one with missing, truncated or edited
                files.
        """
        known = isinstance(folder, Bundle)
        bundle = folder if isinstance(folder, Bundle) else cls(Path(folder), _read_manifest(Path(folder)))
        folder, manifest = bundle.folder, bundle.manifest
        if kind is not None and bundle.kind != kind:
            command = {"automatic": "nnsam predict", "box": "nnsam segment"}
            raise InputError(
                f"{folder} holds {'a box' if bundle.kind == 'box' else 'an automatic'} model "
                f"({manifest.get('model', {}).get('trainer')}); use it with `{command[bundle.kind]}`"
            )
        for name, expected in () if known else manifest["files"].items():
            path = folder / name
            if not path.is_file():
                raise InputError(f"{folder} lacks its file {name}; copy the bundle again, or export the model again")
            if sha256_of_file(path) != expected:
                raise InputError(
                    f"{path} is damaged or was edited (its SHA-256 is not the one in {MANIFEST}); copy the bundle "
                    "again, or export the model again"
                )
        return bundle


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
        if best in available and best in openvino.cpu_precisions():
            return best, ""
        return "f32", f"computed in f32, since this CPU has no {best} instructions, which the model was exported for"
    if wanted not in available:
        raise InputError(
            f"{bundle.folder} has no {wanted} network; it has {', '.join(available)}: choose one of them, or export "
            "the model again with images to calibrate on"
        )
    if wanted not in openvino.cpu_precisions():
        raise SetupError(f"this CPU has no {wanted} instructions; choose the precision f32")
    return wanted, ""


def check_runs_on_cpu(bundle: Bundle, device: Any) -> None:
    """Raises InputError where a bundle is to be computed by anything but the CPU ("cpu" or "auto")."""
    if str(device) not in ("cpu", "auto"):
        raise InputError(
            f"{bundle.folder} is a bundle, which runs on the CPU; leave the device {device} out, or give the model "
            "folder"
        )


def is_bundle(folder: str | Path) -> bool:
    """Tells whether a folder holds `bundle.json`."""
    recover(Path(folder).absolute())
    return (Path(folder) / MANIFEST).is_file()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    """Writes `bundle.json`; `format`, `format_version`, `files` and `digest` are filled in.

    Args:
        folder: holds the other files of the bundle, and nothing else.
        manifest: the other sections.

    Returns:
        The bundle.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **manifest,
        "files": {name: sha256_of_file(folder / name) for name in names},
    }
    content["digest"] = manifest_digest(content)
    write_json(folder / MANIFEST, content)
    return Bundle(folder, content)


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content but for the digest itself, independent of order and white space."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    recover(folder.absolute())
    path = folder / MANIFEST
    if not path.is_file():
        hint = "; it is a trained model folder: export it first with `nnsam export`"
        raise InputError(
            f"{folder} is no bundle: it has no {MANIFEST}{hint if (folder / 'plans.json').is_file() else ''}"
        )
    manifest = read_json(path, "copy the bundle again, or export the model again")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path} is not the description of an nnsam bundle; expected what `nnsam export` wrote")
    version = manifest.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(
            f"{folder} has the bundle format {version}, and this nnsam reads up to {FORMAT_VERSION}; update nnsam"
        )
    if manifest.get("digest") != manifest_digest(manifest):
        raise InputError(f"{path} was edited or damaged (its digest does not fit); export the model again")
    return manifest
