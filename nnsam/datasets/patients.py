"""Which cases belong to one patient, and folds for cross-validation that never part a patient's cases."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nnsam.errors import InputError
from nnsam.io.finding import group_channels, visible
from nnsam.support.files import load_json, read_json
from nnsam.support.text import clipped, shown

FOLDS = 5  # as many as nnU-Net makes

# Patterns that name a patient whatever set the case is in; group 1 is the id.
_PATIENT_PATTERNS = (
    re.compile(r"(?:3D[A-Z]+_ACDC_)?(patient\d+)"),  # patient001_ED_z04, 3DMR_ACDC_patient001_ED
    re.compile(r"3D[A-Z]+_(STS_\d+)"),  # 3DCT_STS_001, 3DPET_STS_001: one patient, several scanners
    re.compile(r"(TCGA-[A-Z0-9]+-[A-Z0-9]+)"),  # the barcode's project, site and participant
    re.compile(r"(?:.*_)?(P\d+)(?:_|$)"),  # flipped_P150_L_DM_CC
)


def patient_ids(cases: Mapping[str, Sequence[str]], pattern: str | None = None) -> dict[tuple[str, str], str]:
    """The patient of each case, by its name.

    The first of these rules that applies:

    1. `pattern`, if given: its first group, or all it matched.
    2. A leading `patient` with digits, also after `3D.._ACDC_`.
    3. `STS_` with digits after a leading `3D.._`.
    4. The first three fields of a leading TCGA barcode.
    5. A field `P` with digits, between underscores.
    6. The part before the first underscore, if it holds a digit and several cases of the set share it.
    7. The case is a patient of its own.

    Ids of rules 1 to 5 are the same patient in whatever set they appear; the others hold within their set.

    Args:
        cases: set -> names of its cases.
        pattern: regular expression, searched anywhere in the name. Where it does not match, the other rules apply.

    Returns:
        (set, case) -> patient.

    Raises:
        InputError: `pattern` is not a regular expression.

    Example:
        >>> patient_ids({"mr": ["3DMR_STS_001"], "ct": ["3DCT_STS_001", "101_7", "101_9", "102_1"]})
        ... # doctest: +NORMALIZE_WHITESPACE
        {('mr', '3DMR_STS_001'): 'STS_001', ('ct', '3DCT_STS_001'): 'STS_001',
         ('ct', '101_7'): 'ct/101', ('ct', '101_9'): 'ct/101', ('ct', '102_1'): 'ct/102_1'}
    """
    try:
        own = None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"{shown(pattern)} is not a regular expression ({error}).") from error
    ids: dict[tuple[str, str], str] = {}
    for name, members in cases.items():
        shared = Counter(case.split("_")[0] for case in members)
        for case in members:
            prefix = case.split("_")[0]
            is_id = shared[prefix] > 1 and any(character.isdigit() for character in prefix)
            ids[name, case] = _explicit_id(case, own) or f"{name}/{prefix if is_id else case}"
    return ids


def _explicit_id(case: str, own: re.Pattern[str] | None) -> str | None:
    match = own.search(case) if own else None
    if match:
        return match.group(1 if match.re.groups else 0)
    return next((match.group(1) for rule in _PATIENT_PATTERNS if (match := rule.match(case))), None)


def patient_folds(patients: Mapping[str, str], sets: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """Folds in the format of nnU-Net's splits_final.json; each patient is validated in exactly one.

    Patients with many cases are placed first, each in the fold where its sets are least represented, so that every
    fold validates on a part of every set that has enough patients.

    Args:
        patients: case -> patient.
        sets: case -> set.

    Returns:
        Five folds, or one per patient where there are fewer; none for a single patient, which cannot be divided.
    """
    members: dict[str, list[str]] = {}
    for case in sorted(patients):
        members.setdefault(patients[case], []).append(case)
    if len(members) < 2:
        return []
    sizes = Counter(sets[case] for case in patients)
    folds: list[Counter[str]] = [Counter() for _ in range(min(FOLDS, len(members)))]
    chosen: dict[str, int] = {}
    for patient in sorted(members, key=lambda patient: (-len(members[patient]), patient)):
        own = Counter(sets[case] for case in members[patient])
        shares = [sum(fold[name] / sizes[name] for name in own) for fold in folds]
        index = min(range(len(folds)), key=lambda index: (shares[index], folds[index].total(), index))
        chosen[patient] = index
        folds[index].update(own)
    return [_fold(patients, {patient for patient in chosen if chosen[patient] == index}) for index in range(len(folds))]


def fixed_fold(patients: Mapping[str, str], validation: set[str]) -> list[dict[str, list[str]]]:
    """One fold that validates on given cases, and on all others of their patients.

    Args:
        patients: case -> patient.
        validation: cases.
    """
    return [_fold(patients, {patients[case] for case in validation})]


def _fold(patients: Mapping[str, str], validated: set[str]) -> dict[str, list[str]]:
    cases = sorted(patients)
    return {
        "train": [case for case in cases if patients[case] not in validated],
        "val": [case for case in cases if patients[case] in validated],
    }


FILE = "patients.json"


def patients_of(folder: str | Path, pattern: str | None = None) -> dict[str, str]:
    """Maps every case of imagesTr and imagesTs to its patient.

    The first of these that applies:

    1. `pattern`, searched in the case's name; where it does not match, rule 3.
    2. The folder's patients.json, an object {case: patient}, as `nnsam convert mmwhs` writes it.
    3. The rules of `nnsam.datasets.patients.patient_ids`; those that hold within a set take the whole data set for one,
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
        ending = load_json(folder / "dataset.json")["file_ending"]
    except FileNotFoundError:
        raise InputError(f"{folder} holds no dataset.json; give the folder of a raw nnU-Net data set.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'dataset.json'} cannot be read ({clipped(repr(error))}); write it again."
        ) from error
    training, test = (set(group_channels(visible(folder / part), ending)[0]) for part in _PARTS)
    if training & test:
        raise InputError(
            f"{folder} holds the case {min(training & test)} in imagesTr and in imagesTs; give each its own name."
        )
    if not training | test:
        raise InputError(f"{folder} holds no images called <case>_0000{ending} in imagesTr or imagesTs.")
    return sorted(training | test)


_PARTS = ("imagesTr", "imagesTs")


def _recorded(record: Path, cases: Iterable[str]) -> dict[str, str]:
    content = read_json(record, "write it again or remove it.")
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
