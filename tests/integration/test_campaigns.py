"""A short campaign of kills and full disks, with a new seed every day; a long one is run by hand, see there."""

import datetime
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands run in forks")
def test_kills_and_full_disks_leave_nothing_wrong():
    seed = datetime.date.today().toordinal()
    words = ["--kills", "12", "--full", "6", "--seed", str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.kills", *words],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {seed}" in done.stdout
