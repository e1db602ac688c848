"""Errors that are the user's to mend: one sentence, exit code 1, and a stack trace on request."""

import os
import subprocess
import sys

import pytest

from nnsam import errors
from nnsam.training import checks as one_sentence_errors

RAISE = """
from nnsam.errors import InputError
from nnsam.training.checks import install
install()
def inner():
    raise {error}
inner()
"""


def run(error: str, **environment: str) -> subprocess.CompletedProcess:
    code = RAISE.format(error=error)
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


def test_a_users_error_is_one_sentence_and_exit_code_1():
    found = run("InputError('the file is empty; give another one')")
    assert found.returncode == 1
    assert found.stderr == "nnsam: the file is empty; give another one\n"
    assert found.stdout == ""


def test_a_stack_trace_is_shown_on_request():
    found = run("InputError('the file is empty')", NNSAM_TRACEBACK="1")
    assert found.returncode == 1
    assert "Traceback (most recent call last)" in found.stderr
    assert "in inner" in found.stderr


@pytest.mark.parametrize("error", ["ValueError('a defect')", "RuntimeError('a defect')", "KeyError('a defect')"])
def test_other_errors_keep_their_stack_trace(error):
    found = run(error)
    assert found.returncode == 1
    assert "Traceback (most recent call last)" in found.stderr
    assert "a defect" in found.stderr


def test_a_hook_that_was_there_before_gets_other_errors_only_and_installing_twice_is_once(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(sys, "excepthook", lambda *arguments: seen.append(arguments))
    one_sentence_errors.install()
    hook = sys.excepthook
    one_sentence_errors.install()
    assert sys.excepthook is hook
    hook(errors.WeightsError, errors.WeightsError("no weights"), None)
    assert seen == []
    assert capsys.readouterr().err == "nnsam: no weights\n"
    defect = KeyError("defect")
    hook(KeyError, defect, None)
    assert seen == [(KeyError, defect, None)]


@pytest.mark.parametrize(
    ("error", "standard"),
    [(errors.InputError, ValueError), (errors.WeightsError, RuntimeError), (errors.SetupError, RuntimeError)],
)
def test_errors_can_be_caught_as_standard_ones(error, standard):
    assert issubclass(error, errors.NnsamError)
    assert issubclass(error, standard)


def test_warnings_are_user_warnings():
    assert issubclass(errors.NnsamWarning, UserWarning)
