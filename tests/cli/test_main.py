"""Dispatch, messages and exit codes of the `nnsam` command."""

import subprocess
import sys
import warnings

import pytest

from nnsam.cli import main as cli
from nnsam.cli.parser import CommandParser, HelpFormatter
from nnsam.errors import InputError, NnsamWarning


class Command:
    """A stand-in for a command's module."""

    def __init__(self, outcome):
        self.outcome = outcome

    def add_arguments(self, parser):
        pass

    def run(self, args):
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def outcome(monkeypatch):
    """Makes `nnsam doctor` end in a given way."""

    def install(value):
        sys.modules["stand_in_command"] = Command(value)
        monkeypatch.setitem(sys.modules, "stand_in_command", sys.modules["stand_in_command"])
        monkeypatch.setitem(cli.COMMANDS, "doctor", ("stand_in_command", "stand-in"))

    return install


@pytest.fixture
def warns(monkeypatch):
    """A command that warns."""

    class Warns(Command):
        def run(self, args):
            warnings.warn("this function will go", FutureWarning, stacklevel=1)
            for file in ("a", "b", "a"):  # the first one is read twice
                warnings.warn(f"{file} lacks slices", NnsamWarning, stacklevel=1)
            return 0

    monkeypatch.setitem(sys.modules, "stand_in_command", Warns(0))
    monkeypatch.setitem(cli.COMMANDS, "doctor", ("stand_in_command", "stand-in"))


@pytest.mark.parametrize("wish", ["default", "ignore", "error", "once"])
def test_our_warnings_reach_the_user_whatever_pythonwarnings_says_and_pytorchs_do_not(warns, capsys, wish):
    with warnings.catch_warnings():
        warnings.simplefilter(wish)
        assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().err == "nnsam doctor: a lacks slices\nnnsam doctor: b lacks slices\n"


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_the_commands(outcome, code):
    outcome(code)
    assert cli.main(["doctor"]) == code


def test_a_user_error_is_one_sentence_and_exit_code_1(outcome, capsys):
    outcome(InputError("found this, expected that; do so"))
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "nnsam doctor: found this, expected that; do so\n"


def test_a_stack_trace_is_shown_on_request(outcome, monkeypatch):
    monkeypatch.setenv("NNSAM_TRACEBACK", "1")
    outcome(InputError("found this"))
    with pytest.raises(InputError):
        cli.main(["doctor"])


def test_a_defect_keeps_its_stack_trace(outcome):
    outcome(KeyError("ours"))
    with pytest.raises(KeyError):
        cli.main(["doctor"])


def test_ctrl_c_ends_with_130(outcome):
    outcome(KeyboardInterrupt())
    assert cli.main(["doctor"]) == 130


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["doctor", "--nonsense"]])
def test_wrong_usage_ends_with_2(arguments):
    with pytest.raises(SystemExit) as ending:
        cli.main(arguments)
    assert ending.value.code == 2


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as ending:
        cli.main([command, "--help"])
    assert ending.value.code == 0
    text = capsys.readouterr().out
    assert "Example:" in text
    assert f"nnsam {command}" in text.split("Example:")[1]


def test_help_imports_neither_torch_nor_numpy():
    code = "import sys\nfrom nnsam.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'numpy', 'nnunetv2') if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["nnunetv2.paths", "pandas"])
def test_a_command_of_the_full_installation_says_what_is_missing(outcome, capsys, name):
    outcome(ModuleNotFoundError(f"No module named '{name}'", name=name))
    assert cli.main(["doctor"]) == 1
    assert f"needs the full installation, and {name} is not installed" in capsys.readouterr().err


def test_any_other_missing_module_is_a_defect(outcome):
    outcome(ModuleNotFoundError("No module named 'nnsam.typo'", name="nnsam.typo"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["doctor"])


PRINTING = """
import sys, time, types
from pathlib import Path
from nnsam.cli import main as cli
from nnsam.cli.parser import CommandParser, HelpFormatter

class Command(types.ModuleType):
    __doc__ = "Example: nnsam doctor"
    def add_arguments(self, parser): pass
    def run(self, args):
        for index in range(8):
            print(f"case {index} done", flush=True)
            print("told", file=sys.stderr)
            time.sleep(0.05)
            Path(f"case{index}").touch()
        return CODE

sys.modules["stand_in_command"] = Command("stand_in_command")
cli.COMMANDS["doctor"] = ("stand_in_command", "stand-in")
sys.exit(cli.main(["doctor"]))
"""


@pytest.mark.parametrize("code", [0, 1])
def test_work_goes_on_though_the_reader_of_its_output_has_gone(tmp_path, code):
    command = [sys.executable, "-c", PRINTING.replace("CODE", str(code))]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "case 0 done\n"
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=60) == code
    assert len(list(tmp_path.iterdir())) == 8


def usage_error(capsys, *words):
    """What is printed on wrong usage."""
    with pytest.raises(SystemExit) as ending:
        cli.main(list(words))
    assert ending.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


@pytest.mark.parametrize(
    ("words", "usage", "suggestion"),
    [
        ("segmnt MODEL", "usage: nnsam [", "did you mean segment?"),
        ("convert npz-to-nnnet x -o y", "usage: nnsam convert [", "did you mean npz-to-nnunet?"),
        ("bench gpu", "usage: nnsam bench [", "found 'gpu'; expected box, cpu, train"),
        ("bench box --grabcutt", "usage: nnsam bench box [", "argument --grabcutt; did you mean --grabcut?"),
        ("predict bundle -i a --outptu b", "usage: nnsam predict [", "argument --outptu; did you mean --output?"),
        ("predict bundle -i a -o b --outptu=c", "usage: nnsam predict [", "--outptu=c; did you mean --output?"),
        ("predict bundle -i a -o b --precision F32", "usage: nnsam predict [", "did you mean f32?"),
        ("evaluate -p a -r b --profile chalenge", "usage: nnsam evaluate [", "did you mean challenge?"),
        ("fewshot run EXP --methds unet", "usage: nnsam fewshot run [", "did you mean --methods"),
        ("doctor more", "usage: nnsam doctor [", "unrecognized argument more"),
    ],
)
def test_wrong_usage_shows_the_usage_of_the_command_and_what_may_have_been_meant(capsys, words, usage, suggestion):
    text = usage_error(capsys, *words.split())
    assert text.startswith(usage)
    assert suggestion in " ".join(text.split())


def test_what_resembles_nothing_gets_no_suggestion(capsys):
    assert "did you mean" not in usage_error(capsys, "doctor", "--qqq")


@pytest.mark.parametrize("words", ["", "bench", "convert", "fewshot", "weights"])
def test_a_command_that_is_typed_bare_prints_its_help(capsys, words):
    printed = usage_error(capsys, *words.split())
    with pytest.raises(SystemExit):
        cli.main([*words.split(), "--help"])
    assert printed == capsys.readouterr().out
    assert "error" not in printed.splitlines()[-1]


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("words", [*([name] for name in cli.COMMANDS), ["convert", "mmwhs"], ["fewshot", "prepare"]])
def test_help_wraps_at_the_width_of_the_terminal_but_for_commands(monkeypatch, capsys, words, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if not line.lstrip().startswith(("nnsam", "nnUNet", "Example: nnsam"))]
    # A word is not broken, nor an option with its choices.
    lines = [line for line in lines if len(line.split()) > 1 and "{" not in line]
    assert [line for line in lines if len(line) > min(columns, 120)] == []


def test_paragraphs_are_joined_and_tables_keep_their_rows():
    paragraph, table = "One paragraph\nof two lines.", "a    first row of a table\n     that goes on\nbb   second"
    shown = HelpFormatter("nnsam")._fill_text(f"{paragraph}\n\n{table}\n\nExample:\n  nnsam x y z a b c d\n", 18, "")
    assert shown.splitlines() == [
        *("One paragraph of", "two lines.", ""),
        *("a    first row of", "     a table that", "     goes on", "bb   second", ""),
        *("Example:", "  nnsam x y z a b c d"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        "convert images photos masks -o /Dataset100_Lesions",
        "convert npz-to-nnunet data --output=/Dataset100_Lesions",
        "convert mmwhs data -o /Dataset301_HeartCT",
        "plan-box -d /Dataset201_Boxes",
        "box-train /Dataset201_Boxes -o bundle",
        "fewshot prepare -d /Dataset101_Hearts -o study --sizes 4",
        "warm-start /Dataset001_Heart/nnUNetTrainer__nnUNetPlans__2d/fold_0/checkpoint_final.pth -o start.pth",
        "export /Dataset001_Heart/nnUNetTrainer__nnUNetPlans__2d -o bundle",
    ],
)
def test_an_unset_variable_of_nnunet_is_noticed_before_anything_is_written(monkeypatch, tmp_path, capsys, words):
    monkeypatch.chdir(tmp_path)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(words.split()) == 1
    error = capsys.readouterr().err
    assert "as if a variable before it were not set" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_numbers_below_zero_are_values_and_not_options():
    parser = CommandParser()
    parser.add_argument("--box")
    parser.add_argument("-o")
    for text in ("-5,1,8,9", "-5", "-0.5,-2,1e3,4", "-.5,1,2,3"):
        assert parser.parse_args(["--box", text, "-o", "out"]).box == text


@pytest.mark.parametrize(
    "words",
    [
        "box-train lesions -o /nowhere_bundle",
        "box-train lesions -o bundle --work=/nowhere_bundle",
        "predict bundle -i a.png -o/nowhere_bundle/a.png",
        "evaluate -p a -r b --json /nowhere_bundle.json",
        "convert images a b -o /nowhere_bundle",
    ],
)
def test_an_output_whose_variable_was_not_set_is_refused_before_the_work(monkeypatch, capsys, words):
    monkeypatch.delenv("nnUNet_results", raising=False)
    assert cli.main(words.split()) == 1
    printed = capsys.readouterr()
    assert f"nnsam {words.split()[0]}: found the output /nowhere_bundle" in printed.err
    assert "export it first, e.g. export nnUNet_results=FOLDER" in printed.err


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("segment M -i a -o b --fold 0,1", "folds", ["0", "1"]),
        ("segment --fold 0 M -i a -o b", "folds", ["0"]),
        ("segment M -i a -o b --folds 0 1", "folds", ["0", "1"]),
        ("predict M -i a -o b --fold 0,1", "folds", ["0", "1"]),
        ("predict M -i a -o b --fold 0 1", "folds", ["0", "1"]),
        ("export M -o b --folds 0 1", "folds", ["0", "1"]),
        ("export M -o b --fold 0,all", "folds", ["0", "all"]),
        ("predict M -i a -o b --precision bfloat16", "precision", "bfloat16"),
        ("export M -o b --precision float32", "precision", "float32"),
        ("convert images a b -o c --patient-regex x", "patient", "x"),
        ("convert images a b -o c --patient x", "patient", "x"),
        ("convert npz-to-nnunet a -o c --patient x", "patient_regex", "x"),
        ("box-train a -o c --patient-regex x", "patient", "x"),
        ("fewshot prepare -d a -o c --sizes 1 --patient x", "patient_regex", "x"),
        ("fewshot prepare -d a -o c --sizes 1 --processes 3", "np", 3),
        ("fewshot prepare -d a -o c --sizes 1 --np 3", "np", 3),
        ("plan-box -d 1 --np 3", "processes", 3),
        ("plan-box -d 1 -np 3", "processes", 3),
        ("plan-box -d 1 --processes 3", "processes", 3),
        ("bench box --device mps", "device", "mps"),
        ("bench train", "device", "auto"),
    ],
)
def test_an_option_has_the_same_spellings_in_all_commands(words, name, value):
    assert getattr(cli.build_parser(words.split()[0]).parse_args(words.split()), name) == value
