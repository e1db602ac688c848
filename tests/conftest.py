"""Shared fixtures: the optional folder with real data, small things that many tests need."""

import os
from pathlib import Path

import hypothesis
import pytest

# Two test processes, and what they start, share the processors. Read by PyTorch and OpenMP when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Deadlines are timed unit tests: they fail on a busy machine. The same examples in every run: a change is blamed for
# what it breaks alone. HYPOTHESIS_PROFILE=explore tries new ones.
hypothesis.settings.register_profile("nnsam", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "nnsam"))

# The development machines keep real images and golden outputs beside the checkout; a user's clone has none.
SHARED = Path(os.environ.get("NNSAM_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and golden outputs; tests that need it are skipped where it is absent."""
    if not (SHARED / "fixtures").is_dir():
        pytest.skip("the folder with real data and golden outputs is absent (set NNSAM_TEST_DATA to it)")
    return SHARED


def refuse_fork() -> int:
    """Stands in for `os.fork`, which `multiprocessing` calls; `subprocess` does not."""
    raise AssertionError(
        "a test forks this process, which has threads: the child may wait forever for a lock that one of them holds; "
        "use a fresh interpreter (subprocess, or nnsam.nnunet.commands) or the start method spawn"
    )


@pytest.fixture(scope="session", autouse=True)
def no_forks():
    """No test may hang because a library forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fork", refuse_fork, raising=False)
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No test sees the user's cache, weights or offline switch."""
    for name in ("NNSAM_WEIGHTS", "NNSAM_OFFLINE", "NNSAM_CPU_PRECISION", "NNSAM_CPU_ENCODER", "NNSAM_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NNSAM_HOME", str(tmp_path / "nnsam_home"))
