"""One check over all files that a run is going to write, before it begins: nothing of anybody's is overwritten."""

import json
import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from nnsam.errors import InputError
from nnsam.support.files import is_passed_through

# Identity of a file or folder, whatever it is called.
_Place: TypeAlias = tuple[object, ...]


def check_outputs(
    outputs: Iterable[tuple[str | Path, str | Path | None]],
    inputs: Iterable[str | Path],
    what: str = "an input",
    *,
    models: Iterable[str | Path] = (),
    overwrite: bool = True,
    is_own: Callable[[Path], bool] = lambda path: False,
    has_record: bool = False,
    advice: str = "",
) -> None:
    """Checks that no input, no other output and no file of somebody else would be overwritten.

    Files are the same where links, or names that differ in small and capital letters on a disk that does not, lead to
    the same one. Pipes and devices are written to and not replaced, so that they may be named more than once.

    Args:
        outputs: what a file is made of (an input, or an option such as "--json"), and the file; None and "-" for none.
        inputs: files that must stay.
        what: they are, for messages.
        models: folders that nothing may be written into.
        overwrite: whether files that exist may be replaced; else only those of `is_own`.
        is_own: tells of an existing file whether this program has written it, as it is.
        has_record: it tells that from a record of the folder; single files have none.
        advice: what to do where one exists that is not; empty: --overwrite, or another output.

    Raises:
        InputError: one would.
    """
    kept = {_place(Path(path)) for path in inputs}
    closed = {_place(Path(path)): path for path in models if Path(path).is_dir()}
    written: dict[_Place, str | Path] = {}
    strange: list[Path] = []
    for source, name in outputs:
        path = Path(name or "-")
        if str(path) == "-" or is_passed_through(path):
            continue
        place = _place(path)
        if place in kept:
            raise InputError(f"{path} is {what} and would be overwritten; choose another output.")
        for parent in path.absolute().parents if closed else ():
            if _place(parent) in closed:
                raise InputError(f"{path} lies in the model {closed[_place(parent)]}; choose another output.")
        other = written.setdefault(place, source)
        if other != source:
            names = [of.name if isinstance(of, Path) else of for of in (other, source)]
            mend = "rename one of them" if "--" not in "".join(names) else "choose another output"
            raise InputError(f"{names[0]} and {names[1]} would both be written to {path}; {mend}.")
        if not overwrite and path.is_file() and not is_own(path):
            strange.append(path)
    if strange:
        more = f" (and {len(strange) - 1} more)" if len(strange) > 1 else ""
        exist, them = ("exist", "them") if more else ("exists", "it")
        if has_record:
            advice = advice or "choose another output, or replace what exists with --overwrite"
            found = f"{exist}, and no record says that this command wrote {them}"
        else:
            advice = advice or f"replace {them} with --overwrite, or choose another output"
            found = f"{exist} already"
        raise InputError(f"{strange[0]}{more} {found}; {advice}.")


def is_report(path: Path, keys: Iterable[str]) -> bool:
    """Whether a file is a JSON object with at least these keys, as a command writes it for `--json`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= set(keys)


def _place(path: Path) -> _Place:
    """What is at a path, or would be."""
    try:
        status = path.stat()
    except OSError:
        pass
    else:
        return status.st_dev, status.st_ino
    real = Path(os.path.realpath(path))  # of a link to nothing, its end
    if real == real.parent:
        return (str(real),)
    folder = _existing(real.parent)
    name = unicodedata.normalize("NFC", real.name).casefold() if _ignores_case(folder) else real.name
    return *_place(real.parent), name


def _existing(folder: Path) -> Path:
    return next((place for place in (folder, *folder.parents) if place.exists()), folder)


def _ignores_case(folder: Path) -> bool:
    """Whether small and capital letters are the same to the disk, as far as an existing folder's own name tells."""
    other = folder.with_name(folder.name.swapcase()) if folder.name else folder
    try:
        return other.name != folder.name and other.samefile(folder)
    except OSError:
        return False
