"""What a folder of label maps was made with, so that an interrupted run goes on with what is missing.

The file `nnsam_predict.json` (of `nnsam segment`: `nnsam_segment.json`) in the output folder names, for every finished
case, the outputs with SHA-256 and size and the inputs with SHA-256, place, size and time of change. It is always
replaced as a whole, and only after a case's files are complete: whatever stops the run, a case that is not in it is
segmented again. It also names the files that the run is going to write, so that those of a killed run are known as its
own.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nnsam import __version__
from nnsam.errors import InputError
from nnsam.io.formats import data_files
from nnsam.support.files import load_json, sha256_of_file, write_json
from nnsam.support.text import shown

RECORD = "nnsam_predict.json"
SEGMENT_RECORD = "nnsam_segment.json"
_FORMAT_VERSION = 1
# Settings that earlier versions did not note.
_EARLIER = {"threads": 0}
# Rewriting a long record after every case must not take more than this share of the time.
_SHARE_OF_TIME = 0.05


def describe_outputs(paths: Iterable[Path], folder: Path) -> dict[str, dict[str, Any]]:
    """Returns name in the output folder, with / between folders -> SHA-256 and size in bytes."""
    return {_name(path, folder): {"sha256": sha256_of_file(path), "size": path.stat().st_size} for path in paths}


def _name(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def describe_inputs(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Returns file name -> SHA-256, place, size in bytes and time of the last change in nanoseconds.

    The files that a header names are among them, see `nnsam.io.formats.data_files`. Files of equal names, as those of
    a DICOM series may have, are called by their whole paths.
    """
    return {name: {"sha256": sha256_of_file(path), **_place(path)} for name, path in _with_data(paths).items()}


def _with_data(paths: Iterable[Path]) -> dict[str, Path]:
    files = dict.fromkeys(file for path in paths for file in (path, *data_files(path)))
    count = Counter(path.name for path in files)
    return {path.name if count[path.name] == 1 else str(path.absolute()): path for path in files}


def _place(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"path": str(path.absolute()), "size": status.st_size, "modified": status.st_mtime_ns}


def _is_same_input(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file is the one that was described; it is read unless place, size and time are the same."""
    place = _place(path)
    if "sha256" not in entry:  # of an earlier version
        return all(entry[name] == place[name] for name in ("size", "modified"))
    if all(entry[name] == value for name, value in place.items()):
        return True
    return entry["size"] == place["size"] and entry["sha256"] == sha256_of_file(path)


def own_outputs(folder: Path, name: str = RECORD) -> Callable[[Path], bool]:
    """Returns what tells whether the runs of a folder have written a file as it is, or a killed one was going to.

    Args:
        folder: with the outputs.
        name: of the record.
    """
    before = _read(folder / name) or {}
    known: dict[str, Any] = {name: None for name in before.get("planned", []) if isinstance(name, str)}
    for entry in before.get("cases", {}).values():
        known.update(entry["outputs"])

    def is_own(path: Path) -> bool:
        inside = _name(path, folder)
        if inside not in known:
            return False
        return known[inside] is None or known[inside] == describe_outputs([path], folder)[inside]

    return is_own


class RunRecord:
    """The record of one output folder.

    Attributes:
        folder: where outputs and record are.
        bundle: digest of the model.
        settings: everything else that results depend on; values that JSON can hold.
        cases: case -> "outputs" and "inputs", see `describe_outputs` and `describe_inputs`, and what else was noted.
        has_written: see `own_outputs`, as it was before this run.
    """

    def __init__(self, folder: Path, bundle: str, settings: Mapping[str, Any], name: str = RECORD) -> None:
        self.folder = folder
        self.bundle = bundle
        self.settings = dict(settings)
        self.cases: dict[str, dict[str, Any]] = {}
        self.has_written = own_outputs(folder, name)
        self._path = folder / name
        self._planned: list[str] = []
        self._changed = True
        self._next_write = 0.0

    def resume(self) -> None:
        """Takes over the cases of the record in the folder; one that is absent or damaged holds none.

        Raises:
            InputError: that record is of another model or of other settings.
        """
        content = _read(self._path)
        if content is None:
            return
        there, now = ({**_EARLIER, **values} for values in (content["settings"], self.settings))
        differing = [
            f"{name} {shown(there.get(name))} there and {shown(now.get(name))} now"
            for name in sorted({*there, *now})
            if there.get(name) != now.get(name)
        ]
        if content["bundle"] != self.bundle:
            differing.insert(0, f"the model {content['bundle'][:12]} there and {self.bundle[:12]} now")
        if differing:
            raise InputError(
                f"{self.folder} cannot be continued, since it was made otherwise: {'; '.join(differing)}. Use the same "
                "model and options or another output folder, or leave --continue out to do everything again."
            )
        self.cases = content["cases"]

    def is_done(self, case: str, outputs: Iterable[Path], inputs: Iterable[Path], **more: Any) -> bool:
        """Tells whether a case's outputs are what this record says, made from the inputs as they are now.

        Args:
            case: its name.
            outputs: files that it should have.
            inputs: its images.
            more: what must have been noted besides.
        """
        entry = self.cases.get(case)
        try:
            return (
                entry is not None
                and all(name in entry and entry[name] == value for name, value in more.items())
                and (files := _with_data(inputs)).keys() == entry["inputs"].keys()
                and all(_is_same_input(path, entry["inputs"][name]) for name, path in files.items())
                and entry["outputs"] == describe_outputs(outputs, self.folder)
            )
        except (OSError, KeyError, TypeError, AttributeError):  # no such file, or no such record
            return False

    def plan(self, outputs: Iterable[Path]) -> None:
        """Notes further files that the run is going to write."""
        self._planned = sorted({*self._planned, *(_name(path, self.folder) for path in outputs)})
        self._changed = True

    def add(self, case: str, outputs: Mapping[str, Any], inputs: Mapping[str, Any], **more: Any) -> None:
        """Notes a case whose files are complete.

        Args:
            case: its name.
            outputs: see `describe_outputs`.
            inputs: see `describe_inputs`.
            more: values that JSON can hold.

        Raises:
            InputError: the record cannot be written.
        """
        self.cases[case] = {"outputs": dict(outputs), "inputs": dict(inputs), **more}
        self._planned = [name for name in self._planned if name not in outputs]
        self._changed = True
        if time.monotonic() >= self._next_write:
            self.flush()

    def flush(self) -> None:
        """Writes what is not yet in the file.

        Raises:
            InputError: it cannot be written.
        """
        if not self._changed:
            return
        start = time.monotonic()
        content = {
            "format": _format(self._path),
            "format_version": _FORMAT_VERSION,
            "nnsam": __version__,
            "bundle": self.bundle,
            "settings": self.settings,
            "planned": self._planned,
            "cases": self.cases,
        }
        try:
            write_json(self._path, content)
        except OSError as error:
            raise InputError(f"{self._path} cannot be written ({error.strerror or error}).") from error
        self._changed = False
        now = time.monotonic()
        self._next_write = now + (now - start) / _SHARE_OF_TIME


def has_record(folder: Path) -> bool:
    """Tells whether a folder holds outputs of `nnsam predict`."""
    return _read(folder / RECORD) is not None


def _format(path: Path) -> str:
    return f"{path.stem.replace('_', '-')}-run"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = load_json(path)
    except (OSError, ValueError):
        return None
    parts = {"bundle": str, "settings": dict, "cases": dict}
    if (
        not isinstance(content, dict)
        or content.get("format") != _format(path)
        or content.get("format_version") != _FORMAT_VERSION
        or not all(isinstance(content.get(name), kind) for name, kind in parts.items())
        or not all(
            isinstance(entry, dict) and {"outputs", "inputs"} <= entry.keys() and isinstance(entry["outputs"], dict)
            for entry in content["cases"].values()
        )
        or not isinstance(content.get("planned", []), list)
    ):
        return None
    return content
