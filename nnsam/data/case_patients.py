"""The patient of each case of a raw nnU-Net data set."""

import json
from collections.abc import Iterable
from pathlib import Path

from nnsam.data.patients import patient_ids
from nnsam.errors import InputError

FILE = "patients.json"


def patients_of(folder: str | Path, pattern: str | None = None) -> dict[str, str]:
    """Maps every case of imagesTr and imagesTs to its patient.

    The first of these that applies:

    1. `pattern`, searched in the case's name; where it does not match, rule 3.
    2. The folder's patients.json, an object {case: patient}, as `nnsam convert mmwhs` writes it.
    3. The rules of `nnsam.data.patients.patient_ids`; those that hold within a set take the whole data set for one,
       so that 1001_63 and 1001_179 belong to patient 1001, in imagesTr or imagesTs.

    Args:
        folder: raw nnU-Net data set, with dataset.json.
        pattern: regular expression; its first group, or all it matched, is the patient.

    Returns:
        case -> patient, in the order of the names.

    Raises:
        InputError: no data set, one name for a training and a test case, or a patients.json that cannot be read, lacks
            cases or names others.
    """
    folder = Path(folder)
    cases = _cases(folder)
    record = folder / FILE
    if pattern is None and record.is_file():
        return _recorded(record, cases)
    return {case: patient.removeprefix("/") for (_, case), patient in patient_ids({"": cases}, pattern).items()}


def _cases(folder: Path) -> list[str]:
    try:
        ending = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["file_ending"]
    except FileNotFoundError:
        raise InputError(f"{folder} holds no dataset.json; give the folder of a raw nnU-Net data set.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'dataset.json'} cannot be read ({error!r}); write it again.") from error
    parts = [{path.name for path in (folder / part).glob(f"*_[0-9][0-9][0-9][0-9]{ending}")} for part in _PARTS]
    training, test = ({name[: -len(ending) - 5] for name in names} for names in parts)
    if training & test:
        raise InputError(
            f"{folder} holds the case {min(training & test)} in imagesTr and in imagesTs; give each its own name."
        )
    if not training | test:
        raise InputError(f"{folder} holds no images called <case>_0000{ending} in imagesTr or imagesTs.")
    return sorted(training | test)


_PARTS = ("imagesTr", "imagesTs")


def _recorded(record: Path, cases: Iterable[str]) -> dict[str, str]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{record} cannot be read ({error}); write it again or remove it.") from error
    if not isinstance(content, dict) or not all(isinstance(patient, str) and patient for patient in content.values()):
        raise InputError(f'{record} must hold one object {{"case": "patient", ...}}; mend or remove it.')
    names = set(cases)
    for difference, what in ((names - content.keys(), "lacks"), (content.keys() - names, "names")):
        if difference:
            other = "" if what == "lacks" else ", of which there is no image"
            raise InputError(
                f"{record} {what} {len(difference)} cases, e.g. {min(difference)}{other}; mend or remove it."
            )
    return {case: content[case] for case in sorted(names)}
