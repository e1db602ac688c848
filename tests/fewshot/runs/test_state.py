"""run.json: written and read, edits and mixtures found."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.fewshot.runs.state import STATES, TRAINING, RunKey, RunState

KEY = RunKey("nnUNetTrainer", 4, 1)


def make_state(**changes):
    values = {"protocol_digest": "a" * 64, "budget": {"epochs": 2, "iterations": 3}, "prediction": {"tta": False}}
    return RunState(KEY, **{**values, **changes})


def test_absent_record(tmp_path):
    assert RunState.read(tmp_path, KEY) is None


@settings(max_examples=25)
@given(
    state=st.sampled_from(STATES),
    seconds=st.dictionaries(st.sampled_from(["train", "predict"]), st.floats(0, 1e6)),
    error=st.text(),
)
def test_written_and_read(tmp_path_factory, state, seconds, error):
    folder = tmp_path_factory.mktemp("study")
    written = make_state(state=state, seconds=seconds, error=error, sam_weights={"kind": "official"})
    written.write(folder)
    assert RunState.read(folder, KEY) == written


def test_entering_a_state_writes_it_and_clears_the_error(tmp_path):
    state = make_state(error="something")
    state.enter(TRAINING, tmp_path)
    read = RunState.read(tmp_path, KEY)
    assert (read.state, read.error) == (TRAINING, "")
    assert read.changed > 1.7e9


@pytest.mark.parametrize("name", ["state", "seconds", "budget", "attempts", "protocol_digest"])
def test_any_edit_is_found(tmp_path, name):
    make_state(seconds={"train": 1.0}).write(tmp_path)
    path = KEY.folder(tmp_path) / "run.json"
    content = json.loads(path.read_text())
    content[name] = {"state": "done", "seconds": {"train": 2.0}, "budget": {"epochs": 9, "iterations": 3}}.get(name, 5)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="was edited"):
        RunState.read(tmp_path, KEY)


def test_record_of_another_run_is_found(tmp_path):
    make_state().write(tmp_path)
    other = RunKey("nnUNetTrainer", 4, 2)
    KEY.folder(tmp_path).rename(other.folder(tmp_path))
    with pytest.raises(InputError, match="belongs to another run"):
        RunState.read(tmp_path, other)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format_version": 1, "digest": "x"}'])
def test_damage_is_one_sentence(tmp_path, text):
    path = KEY.folder(tmp_path) / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match="damaged") as error:
        RunState.read(tmp_path, KEY)
    assert "\n" not in str(error.value)


def test_newer_format(tmp_path):
    make_state().write(tmp_path)
    path = KEY.folder(tmp_path) / "run.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(InputError, match="update nnsam"):
        RunState.read(tmp_path, KEY)


def test_differences_are_named_and_only_they(tmp_path):
    state = make_state()
    state.check_same(make_state(), tmp_path)
    with pytest.raises(InputError, match="with epochs 2, and epochs 5 was asked for"):
        state.check_same(make_state(budget={"epochs": 5, "iterations": 3}), tmp_path)
    with pytest.raises(InputError, match="with protocol aaaaaaaaaaaa, tta off, and protocol bbbbbbbbbbbb, tta on"):
        state.check_same(make_state(protocol_digest="b" * 64, prediction={"tta": True}), tmp_path)
