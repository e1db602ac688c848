"""The exported model: a folder of OpenVINO networks and `bundle.json`, which says everything else that is needed.

Read here without PyTorch and nnU-Net; written by :mod:`nnsam.exporting`. Every file is named in `bundle.json` with its
SHA-256, and `bundle.json` carries the SHA-256 of its own content, so that nothing damaged or edited is ever used.
"""

import hashlib
import json
import os
import reprlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, SetupError
from nnsam.inference.bundle_fields import FieldError, check_fields
from nnsam.support import openvino
from nnsam.support.drafts import recover
from nnsam.support.files import read_json, sha256_of_file, write_json
from nnsam.support.openvino import check_precision

MANIFEST = "bundle.json"
FORMAT = "nnsam-bundle"
# Raised when a bundle of this version would be misread by an older nnsam.
FORMAT_VERSION = 1
# The largest encoder that SAM has takes 2.5 GB; what is larger than this is not read to find that it is another file.
MOST_BYTES = 8 * 2**30
_AGAIN = "copy the bundle again, or export the model again"


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
        if not known:
            _check_files(folder, manifest)
        return bundle


def _check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Checks that each file is one, in the folder, of the right size and content; content last, since it takes time."""
    files, sizes = manifest["files"], manifest.get("sizes", {})
    for name in files:
        size = _file_size(folder / name)
        if size != sizes.get(name, size):
            raise InputError(
                f"{folder / name} is damaged: it has {size} bytes, and {MANIFEST} says {sizes[name]}; {_AGAIN}"
            )
        # OpenVINO takes the weights that lie beside a network, whether they are listed or not.
        weights = name.removesuffix(".xml") + ".bin"
        if name.endswith(".xml") and weights not in files and os.path.lexists(folder / weights):
            raise InputError(f"{folder / weights} is not among the files that {MANIFEST} lists; {_AGAIN}")
    for name, expected in files.items():
        try:
            found = sha256_of_file(folder / name)
        except OSError as error:
            raise InputError(f"{folder / name} cannot be read ({error.strerror or error}); {_AGAIN}") from None
        if found != expected:
            raise InputError(
                f"{folder / name} is damaged or was edited (its SHA-256 is not the one in {MANIFEST}); {_AGAIN}"
            )


def _file_size(path: Path) -> int:
    """Returns the bytes of a file of a bundle.

    Raises:
        InputError: absent, no regular file (links lead out of the folder, pipes and devices never end), too large, or
            large and mostly holes, which take no space on the disk and hours to read.
    """
    try:
        state = path.lstat()
    except FileNotFoundError:
        raise InputError(f"{path.parent} lacks its file {path.name}; {_AGAIN}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); {_AGAIN}") from None
    if not stat.S_ISREG(state.st_mode):
        what = "a link" if stat.S_ISLNK(state.st_mode) else "no regular file"
        raise InputError(f"{path} is {what}; the files of a bundle lie in its folder, so copy them (cp -L does)")
    if state.st_size > MOST_BYTES:
        raise InputError(f"{path} has {state.st_size} bytes; a file of a bundle has at most {MOST_BYTES}")
    allocated = getattr(state, "st_blocks", None)
    if state.st_size > _SPARSE and allocated is not None and allocated * 512 < state.st_size // 2 and _has_hole(path):
        raise InputError(f"{path} has {state.st_size} bytes, most of which are holes; {_AGAIN}")
    return state.st_size


# Smaller files are read in no time.
_SPARSE = 2**26


def _has_hole(path: Path) -> bool:
    """Tells whether part of a file was never written; False where the file system does not say (it may compress)."""
    try:
        with path.open("rb") as file:
            return os.lseek(file.fileno(), 0, os.SEEK_HOLE) < os.fstat(file.fileno()).st_size
    except (OSError, AttributeError):  # not on Windows
        return False


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
        computed = [name for name in available if name in openvino.cpu_precisions()]
        raise InputError(
            f"{bundle.folder} has no {wanted} network; here it is computed in {' or '.join(computed)}: choose that, or "
            "export the model again with images to calibrate on"
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
    """Writes `bundle.json`; `format`, `format_version`, `files`, `sizes` and `digest` are filled in.

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
        "sizes": {name: (folder / name).stat().st_size for name in names},
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
    if not folder.is_dir():
        what = f"{folder} is a file" if folder.is_file() else f"there is no folder {folder}"
        raise InputError(f"{what}; expected a bundle, the folder that `nnsam export` made")
    if not path.is_file():
        hint = "; it is a trained model folder: export it first with `nnsam export`"
        raise InputError(
            f"{folder} is no bundle: it has no {MANIFEST}{hint if (folder / 'plans.json').is_file() else ''}"
        )
    if path.is_symlink():
        raise InputError(f"{path} is a link; the files of a bundle lie in its folder, so copy them (cp -L does)")
    manifest = read_json(path, _AGAIN)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path} is not the description of an nnsam bundle; expected what `nnsam export` wrote")
    version = manifest.get("format_version")
    if type(version) is not int or version < 1:
        raise InputError(f"{path}: the field format_version is no whole number above 0; export the model again")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{folder} has the bundle format {reprlib.repr(version)}, and this nnsam reads up to {FORMAT_VERSION}; "
            "update nnsam"
        )
    if manifest.get("digest") != manifest_digest(manifest):
        raise InputError(f"{path} was edited or damaged (its digest does not fit); export the model again")
    try:
        check_fields(manifest)
    except FieldError as error:
        raise InputError(f"{path}: {error}; {_AGAIN}") from None
    return manifest
