"""Commands where the machine lacks something: a home, an encoding, open streams, space, short names."""

import os
import subprocess
import sys

import pytest
from helpers import bundles

from nnsam.cli.main import main
from nnsam.errors import SetupError
from nnsam.inference.engine import default_cache_dir
from nnsam.support import environment


def nnsam(*words, shell="", env=None):
    """Runs the command in a process of its own; `shell` redirects."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-m", "nnsam", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, env=env)


def test_names_that_are_too_long_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["segment", "b", "-i", "{}", "-o", "o.png"], ["evaluate", "-p", "{}", "-r", "{}"]):
        assert main([word.format("x" * 5000) for word in words]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "File name too long" in error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "/full/a.npz"), "/full/a.npz cannot be written: the disk is full"),
        (OSError(30, "Read-only file system"), "a file cannot be used (Read-only file system)"),
        (OSError("torn"), "a file cannot be used (torn)"),
        (MemoryError(), "more memory than there is (none is left)"),
    ],
)
def test_what_the_machine_refuses_is_one_sentence(error, message, monkeypatch, capsys):
    def fail(args):
        raise error

    monkeypatch.setattr("nnsam.cli.doctor.run", fail)
    assert main(["doctor"]) == 1
    assert message in capsys.readouterr().err
    monkeypatch.setenv("NNSAM_TRACEBACK", "1")
    with pytest.raises(type(error)):
        main(["doctor"])


@pytest.fixture
def homeless(monkeypatch):
    def unknown(*words, **options):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("NNSAM_HOME")
    monkeypatch.setattr("platformdirs.user_cache_dir", unknown)


def test_without_a_home_nothing_is_cached(homeless):
    assert default_cache_dir() is None
    with pytest.raises(SetupError, match="set HOME or NNSAM_HOME"):
        environment.home()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_matter(closed, tmp_path):
    done = nnsam("convert", "--help", shell=closed)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_closed_output_does_not_write_into_files(tmp_path):
    code = (
        "import os; from nnsam.cli.common import prepare_streams; prepare_streams()\n"
        "file = open('file.txt', 'w'); os.write(1, b'printed'); file.write('kept')"
    )
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", code]
    subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
    target = tmp_path / "file.txt"
    assert target.read_text() == "kept"


def test_the_encoding_of_the_output_does_not_matter():
    code = "from nnsam.cli.common import prepare_streams; prepare_streams(); print('\\xe9 \\udcff')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout == "\\xe9 \\udcff\n"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="not on this system")
def test_odd_names_and_encodings_segment_all_the_same(tmp_path):
    import numpy as np
    import PIL.Image

    bundles.write_box(tmp_path / "bundle")
    (tmp_path / "in").mkdir()
    names = ["a.png", "é ü.png", "two\nlines.png", os.fsdecode(b"byte\xff.png")]
    for name in names:
        PIL.Image.fromarray(np.arange(2000, dtype=np.uint8).reshape(40, 50)).save(tmp_path / "in" / name)
    cache = str(tmp_path / "in" / "a.png")  # no folder
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "NNSAM_HOME": cache}
    paths = [tmp_path / "bundle", "-i", tmp_path / "in", "-o", tmp_path / "out"]
    done = nnsam("segment", *paths, "--box", "5,5,20,20", env=environment)
    assert done.returncode == 0, done.stderr
    assert "compiled networks cannot be kept" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == sorted(names)
