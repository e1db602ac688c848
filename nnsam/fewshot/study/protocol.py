"""The record of a few-shot study: which cases train, validate and test, and their hashes.

It is written once, before anything is trained; runs and reports refer to it by its digest, so that results of two
studies are never mixed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnsam.errors import InputError
from nnsam.fewshot.study.splits import Split
from nnsam.support.files import load_json, write_json
from nnsam.support.text import clipped, shown

FILE = "protocol.json"
FORMAT_VERSION = 1
PLANNING = ("training", "all")


@dataclass(frozen=True)
class Protocol:
    """A few-shot study.

    Attributes:
        dataset: name of the data set.
        file_ending: of its images and label maps, such as ".nii.gz".
        channel_names: as in dataset.json.
        labels: class name -> value, or values of a region, as in dataset.json.
        rule: "patient", "slice" or "given", see :mod:`nnsam.fewshot.study.splits`.
        planning: "training": nnU-Net plans each run from its training cases only; "all": from all cases that are not
            test cases, nnU-Net's way.
        sizes: numbers of training cases, ascending.
        seeds: one draw of training cases, and one seed of the training, each.
        subsets: (size, seed) -> training cases.
        validation: validation cases, the same for all runs.
        test: test cases, the same for all runs.
        patients: case -> patient.
        hashes: case -> SHA-256 over its image and label files.
        versions: of the packages that drew it.
    """

    dataset: str
    file_ending: str
    channel_names: Mapping[str, str]
    labels: Mapping[str, Any]
    rule: str
    planning: str
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    subsets: Mapping[tuple[int, int], tuple[str, ...]]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    patients: Mapping[str, str]
    hashes: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.planning not in PLANNING:
            raise InputError(f"the planning {shown(self.planning)} is unknown; expected {' or '.join(PLANNING)}")
        pool = tuple(sorted({case for subset in self.subsets.values() for case in subset}))
        lists = {"training": pool, "validation": self.validation, "test": self.test}
        seen: dict[str, str] = {}
        for name, cases in lists.items():
            for case in cases:
                if seen.setdefault(case, name) != name:
                    raise InputError(f"case {case} is among the {seen[case]} and the {name} cases; expected it in one")
        if self.rule != "slice":
            Split(pool, self.validation, self.test).check(self.patients)

    @property
    def digest(self) -> str:
        """SHA-256 of the content but for the versions: what decides whether results belong together."""
        content = {key: value for key, value in self._content().items() if key != "versions"}
        return _sha256(json.dumps(content, sort_keys=True, separators=(",", ":")))

    def list_hashes(self) -> dict[str, str]:
        """SHA-256 of each list of cases, by its name: "n4_s0", ..., "validation", "test"."""
        lists = {subset_name(*key): cases for key, cases in self.subsets.items()}
        return {
            name: list_hash(cases)
            for name, cases in {**lists, "validation": self.validation, "test": self.test}.items()
        }

    def write(self, folder: str | Path) -> Path:
        """Writes the record into a folder and returns its path."""
        content = {**self._content(), "list_hashes": self.list_hashes(), "digest": self.digest}
        write_json(Path(folder) / FILE, content)
        return Path(folder) / FILE

    @classmethod
    def read(cls, folder: str | Path) -> "Protocol":
        """Reads the record of a folder.

        Raises:
            InputError: none there, one of a newer version, or an edited or damaged one.
        """
        path = Path(folder) / FILE
        try:
            content = load_json(path)
            version = content["format_version"]
        except FileNotFoundError:
            raise InputError(f"{folder} holds no {FILE}; make a study with `nnsam fewshot prepare` first") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} cannot be read ({clipped(repr(error))}); run `nnsam fewshot prepare` again"
            ) from None
        if version > FORMAT_VERSION:
            raise InputError(f"{path} has format {version}, and this nnsam reads up to {FORMAT_VERSION}; update nnsam")
        try:
            protocol = cls(
                **{name: content[name] for name in ("dataset", "file_ending", "channel_names", "labels", "rule")},
                planning=content["planning"],
                sizes=tuple(content["sizes"]),
                seeds=tuple(content["seeds"]),
                subsets={_subset_key(name): tuple(cases) for name, cases in content["subsets"].items()},
                validation=tuple(content["validation"]),
                test=tuple(content["test"]),
                patients=content["patients"],
                hashes=content["hashes"],
                versions=content["versions"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({error}); run `nnsam fewshot prepare` again") from None
        if content.get("digest") != protocol.digest:
            raise InputError(
                f"{path} was edited (its digest does not fit), so its runs could not be told from those of another "
                "study; restore it, or prepare a new study"
            )
        return protocol

    def _content(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            **{name: getattr(self, name) for name in ("dataset", "file_ending", "rule", "planning")},
            "channel_names": dict(self.channel_names),
            "labels": dict(self.labels),
            "sizes": list(self.sizes),
            "seeds": list(self.seeds),
            "subsets": {subset_name(*key): list(cases) for key, cases in sorted(self.subsets.items())},
            "validation": list(self.validation),
            "test": list(self.test),
            "patients": dict(sorted(self.patients.items())),
            "hashes": dict(sorted(self.hashes.items())),
            "versions": dict(self.versions),
        }


def subset_name(size: int, seed: int) -> str:
    """Returns the name of a subset, e.g. "n4_s0"."""
    return f"n{size}_s{seed}"


def list_hash(cases: Iterable[str]) -> str:
    """SHA-256 of a list of cases, whatever its order."""
    return _sha256("\n".join(sorted(cases)))


def _subset_key(name: str) -> tuple[int, int]:
    size, seed = name.removeprefix("n").split("_s")
    return int(size), int(seed)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
