"""The record survives writing and reading, and notices every change."""

import json
from dataclasses import replace

import pytest

from nnsam.errors import InputError
from nnsam.fewshot.study.protocol import FILE, Protocol, list_hash
from nnsam.fewshot.study.splits import draw_subsets

CASES = [f"p{index}_a" for index in range(8)]


def make_protocol(**changes) -> Protocol:
    values = {
        "dataset": "Hearts",
        "file_ending": ".nii.gz",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "LV": 1},
        "rule": "patient",
        "planning": "training",
        "sizes": (2, 4),
        "seeds": (0, 1),
        "subsets": draw_subsets(CASES[:5], [2, 4], [0, 1]),
        "validation": (CASES[5],),
        "test": tuple(CASES[6:]),
        "patients": {case: case.split("_")[0] for case in CASES},
        "hashes": dict.fromkeys(CASES, "0" * 64),
        "versions": {"nnsam": "1"},
    }
    return Protocol(**{**values, **changes})


def test_what_is_written_is_read(tmp_path):
    protocol = make_protocol()
    protocol.write(tmp_path)
    assert Protocol.read(tmp_path) == protocol
    assert json.loads((tmp_path / FILE).read_text())["list_hashes"]["test"] == list_hash(CASES[:5:-1])


def test_the_digest_covers_everything_but_the_versions():
    protocol = make_protocol()
    assert replace(protocol, versions={"nnsam": "2"}).digest == protocol.digest
    for change in ({"dataset": "x"}, {"planning": "all"}, {"test": (CASES[6],)}, {"hashes": {}}, {"labels": {}}):
        assert replace(protocol, **change).digest != protocol.digest


def test_the_hash_of_a_list_does_not_depend_on_its_order():
    assert list_hash(["a", "b"]) == list_hash(["b", "a"]) != list_hash(["ab"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content["test"].pop(), "was edited"),
        (lambda content: content["subsets"].update(x=["a"]), "is damaged"),
        (lambda content: content.pop("sizes"), "is damaged"),
        (lambda content: content.update(format_version=2), "update nnsam"),
    ],
)
def test_an_edited_record_is_refused(tmp_path, edit, message):
    path = make_protocol().write(tmp_path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        Protocol.read(tmp_path)


def test_a_truncated_record_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no protocol"):
        Protocol.read(tmp_path)
    path = make_protocol().write(tmp_path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(InputError, match="cannot be read"):
        Protocol.read(tmp_path)


def test_a_case_or_a_patient_in_two_lists_is_refused():
    with pytest.raises(InputError, match="p6_a is among the validation and the test cases"):
        make_protocol(validation=(CASES[6],))
    patients = {**make_protocol().patients, CASES[6]: "p5"}
    with pytest.raises(InputError, match="patient p5 has cases in"):
        make_protocol(patients=patients)
    make_protocol(patients=patients, rule="slice")


def test_unknown_planning_is_refused():
    with pytest.raises(InputError, match="'some' is unknown; expected training or all"):
        make_protocol(planning="some")
