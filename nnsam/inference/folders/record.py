"""What a folder of label maps was made with, so that an interrupted run goes on with what is missing.

The file `nnsam_predict.json` (of `nnsam segment`: `nnsam_segment.json`) in the output folder names, for every finished
case, the outputs with SHA-256 and size and the inputs with SHA-256, place, size and times of change. It is always
replaced as a whole, and only after a case's files are complete: whatever stops the run, a case that is not in it is
segmented again. It also holds the hashes of all files that runs have written there, so that these may be replaced as
long as nobody has changed them. While a run lasts, a hidden journal beside it gets the hash of every file just before
it appears, so that those of a killed run are known, too.
"""

import errno
import json
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnsam import __version__
from nnsam.errors import InputError
from nnsam.io.formats import data_files
from nnsam.support.concurrency import uninterrupted
from nnsam.support.files import load_json, sha256_of_file, write_json
from nnsam.support.text import clipped, shown

RECORD = "nnsam_predict.json"
SEGMENT_RECORD = "nnsam_segment.json"
_FORMAT_VERSION = 1
_LONGEST_JOURNAL = 1 << 28
# Settings that earlier versions did not note.
_EARLIER = {"threads": 0}
# Rewriting a long record after every case must not take more than this share of the time.
_SHARE_OF_TIME = 0.05


def describe_file(path: Path) -> dict[str, Any]:
    """SHA-256 and size in bytes of a regular file, which pipes and devices are not.

    Raises:
        OSError: absent, or no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    return {"sha256": sha256_of_file(path), "size": path.stat().st_size}


def output_name(path: Path, folder: Path) -> str:
    """How an output is called in the record of a folder: its path from there, with / between folders."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _is_same_output(path: Path, entry: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry["size"] and describe_file(path) == entry


def describe_inputs(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Returns file name -> SHA-256, place, size in bytes and times of change in nanoseconds, in the order of the files.

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
    # The time of the last change of the entry, which no program sets, and the entry's number.
    entry = {"changed": status.st_ctime_ns, "number": status.st_ino}
    return {"path": str(path.absolute()), "size": status.st_size, "modified": status.st_mtime_ns, **entry}


def _is_same_input(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file is the one that was described; it is read unless place, size and time are the same."""
    place = _place(path)
    if "sha256" not in entry:  # of an earlier version
        return all(entry[name] == place[name] for name in ("size", "modified"))
    if all(entry.get(name) == value for name, value in place.items()):
        return True
    return entry["size"] == place["size"] and entry["sha256"] == sha256_of_file(path)


def own_outputs(folder: Path, name: str = RECORD) -> Callable[[Path], bool]:
    """Returns what tells whether the runs of a folder have written a file as it is.

    Args:
        folder: with the outputs.
        name: of the record.
    """
    return _teller(folder, _written(_read(folder / name) or {}, folder / name))


def _teller(folder: Path, known: Mapping[str, Sequence[dict[str, Any] | None]]) -> Callable[[Path], bool]:
    def is_own(path: Path) -> bool:
        entries = known.get(output_name(path, folder), [])
        return None in entries or any(entry is not None and _is_same_output(path, entry) for entry in entries)

    return is_own


def _written(before: Mapping[str, Any], record: Path) -> dict[str, list[dict[str, Any] | None]]:
    """What runs have written by a record's content and its journal; None stands for what a worker was to write."""
    known: dict[str, list[dict[str, Any] | None]] = {}
    for entries in (before.get("written", {}), *(entry["outputs"] for entry in before.get("cases", {}).values())):
        for output, entry in entries.items():
            if _is_description(entry):
                known.setdefault(output, []).append(entry)
    for output, entry in _read_journal(_journal(record)):
        known.setdefault(output, []).append(entry)
    return known


def _is_description(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and type(entry.get("size")) is int


def _journal(record: Path) -> Path:
    return record.with_name(f".{record.stem}.journal")


def _read_journal(path: Path) -> list[tuple[str, dict[str, Any] | None]]:
    """Lines as they were written; a last one that was cut off, or one that is damaged, is left out."""
    found: list[tuple[str, dict[str, Any] | None]] = []
    if not path.is_file() or path.is_symlink() or path.stat().st_size > _LONGEST_JOURNAL:
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, TypeError, RecursionError):
            output, entry = json.loads(line)
            if isinstance(output, str) and (entry is None or _is_description(entry)):
                found.append((output, entry))
    return found


class RunRecord:
    """The record of one output folder.

    Attributes:
        folder: where outputs and record are.
        bundle: digest of the model.
        settings: everything else that results depend on; values that JSON can hold.
        cases: case -> "outputs" and "inputs", see `add`, and what else was noted.
        has_written: see `own_outputs`, as it was before this run.
    """

    def __init__(self, folder: Path, bundle: str, settings: Mapping[str, Any], name: str = RECORD) -> None:
        self.folder = folder
        self.bundle = bundle
        self.settings = dict(settings)
        self.cases: dict[str, dict[str, Any]] = {}
        self._path = folder / name
        self._content = _read(self._path)
        before = self._content or {}
        written = _written(before, self._path)
        self.has_written = _teller(folder, written)
        self._before: dict[str, dict[str, Any]] = dict(before.get("cases", {}))
        self._written = self._still_own(written)
        self._noted: dict[str, dict[str, Any]] = {}
        self._expected: set[str] = set()
        self._changed = True
        self._next_write = 0.0

    def resume(self) -> None:
        """Takes over the cases of the record in the folder; one that is absent or damaged holds none.

        Raises:
            InputError: that record is of another model or of other settings.
        """
        content = self._content
        if content is None:
            return
        there, now = ({**_EARLIER, **values} for values in (content["settings"], self.settings))
        differing = [
            f"{clipped(name)} {shown(there.get(name))} there and {shown(now.get(name))} now"
            for name in sorted({*there, *now})
            if there.get(name) != now.get(name)
        ]
        if content["bundle"] != self.bundle:
            differing.insert(0, f"the model {clipped(content['bundle'][:12])} there and {self.bundle[:12]} now")
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
                and list(files := _with_data(inputs)) == list(entry["inputs"])  # channels have an order
                and (written := {output_name(path, self.folder): path for path in outputs}).keys()
                == entry["outputs"].keys()
                and all(_is_same_input(path, entry["inputs"][name]) for name, path in files.items())
                and all(_is_same_output(path, entry["outputs"][name]) for name, path in written.items())
            )
        except (OSError, KeyError, TypeError, AttributeError, ValueError, InputError):  # no such file, or no record
            return False

    def expect(self, outputs: Iterable[Path]) -> None:
        """Notes files that others are going to write, who cannot tell their hashes before.

        Raises:
            InputError: the journal cannot be written.
        """
        for path in outputs:
            if not os.path.lexists(path):
                self._expected.add(output_name(path, self.folder))
                self._to_journal(output_name(path, self.folder), None)

    def note(self, output: str, entry: Mapping[str, Any]) -> None:
        """Notes a file that is going to appear, see `describe_file`.

        Args:
            output: its name, see `output_name`.
            entry: what it will be.

        Raises:
            InputError: the journal cannot be written.
        """
        self._to_journal(output, entry)
        self._noted[output] = dict(entry)

    def add(self, case: str, outputs: Mapping[str, Any], inputs: Mapping[str, Any], **more: Any) -> None:
        """Notes a case whose files are complete; what it had before and has no more, unchanged, is removed.

        Args:
            case: its name.
            outputs: `output_name` -> `describe_file`.
            inputs: see `describe_inputs`.
            more: values that JSON can hold.

        Raises:
            InputError: the record cannot be written.
        """
        self._remove_former(case, outputs)
        self.cases[case] = {"outputs": dict(outputs), "inputs": dict(inputs), **more}
        self._written.update(outputs)
        for output in outputs:
            self._noted.pop(output, None)
        self.forget(outputs)
        self._changed = True
        if time.monotonic() >= self._next_write:
            self.flush()

    def forget(self, outputs: Iterable[str]) -> None:
        """Expects files no more, by name: they have come, or their case has failed."""
        self._expected.difference_update(outputs)

    def close(self) -> None:
        """Writes what is not yet in the file, and removes the journal. Nobody writes into the folder any more.

        Raises:
            InputError: the record cannot be written.
        """
        with uninterrupted():
            for output, entry in self._noted.items():  # of a case that was not finished
                with suppress(OSError):
                    if _is_same_output(self.folder / output, entry):
                        self._written[output] = entry
                        self._changed = True
            for output in self._expected:  # of workers that were ended before they could tell
                with suppress(OSError):
                    self._written[output] = describe_file(self.folder / output)
                    self._changed = True
            self._expected.clear()
            self.flush()
            with suppress(OSError):
                _journal(self._path).unlink(missing_ok=True)

    def _still_own(self, written: Mapping[str, list[dict[str, Any] | None]]) -> dict[str, dict[str, Any]]:
        """The last of several descriptions of a file that fits."""
        found: dict[str, dict[str, Any]] = {}
        for output, entries in written.items():
            several = [entry for entry in entries if entry is not None]
            if len(several) > 1 and several[0] != several[-1]:
                several = [entry for entry in several if _is_same_output(self.folder / output, entry)] or several
            if several:
                found[output] = several[-1]
        return found

    def _remove_former(self, case: str, outputs: Mapping[str, Any]) -> None:
        """Such as the masks of objects that are no longer asked for."""
        for output, entry in self._before.pop(case, {}).get("outputs", {}).items():
            path = self.folder / output
            is_inside = self.folder.absolute() in Path(os.path.normpath(path.absolute())).parents
            if output not in outputs and is_inside and _is_description(entry) and _is_same_output(path, entry):
                with suppress(OSError):
                    path.unlink()
                self._written.pop(output, None)

    def _to_journal(self, output: str, entry: Mapping[str, Any] | None) -> None:
        path = _journal(self._path)
        line = json.dumps([output, entry]).encode() + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(path, flags, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise InputError(f"{path} is no file; remove it, since the journal of the run is written there.")
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror or error}).") from error

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
            "written": self._written,
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
    if not path.is_file():  # a pipe would be waited for
        return None
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
        or not isinstance(content.get("written", {}), dict)
    ):
        return None
    return content
