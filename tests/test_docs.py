"""README, CONTRIBUTING and docs/ are true, as far as can be seen without training.

Python compiles, its imports resolve and its keywords exist; command lines parse; links lead somewhere; lists are
complete.
"""

import argparse
import ast
import configparser
import importlib
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nnsam.cli.main import COMMANDS, build_parser
from nnsam.errors import InputError
from nnsam.nnunet.trainer_names import TRAINERS, trainer_class

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
API = sorted((DOCS / "api").glob("*.md"))


class Fence(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def fences(markdown: str) -> Iterator[Fence]:
    """The fenced blocks of a page, those in lists included."""
    for indent, language, text in re.findall(r"^( *)```(\w*)\n(.*?)^\1```", markdown, re.MULTILINE | re.DOTALL):
        yield Fence(language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE))


def prose(markdown: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", markdown, flags=re.MULTILINE | re.DOTALL)


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("path", PAGES, ids=page_id)


# ---- Python


def python_problems(source: str) -> list[str]:
    """What is wrong with a block: syntax, imports that do not resolve, keywords that a callable does not take."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    known: dict[str, Any] = {}
    problems = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = importlib.import_module(alias.name)
                known[alias.asname or alias.name.split(".")[0]] = (
                    module if alias.asname else importlib.import_module(alias.name.split(".")[0])
                )
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    problems.append(f"{node.module} has no {alias.name}")
                known[alias.asname or alias.name] = getattr(module, alias.name, None)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            owner = known[node.value.id]
            if inspect.ismodule(owner) and not hasattr(owner, node.attr):
                problems.append(f"{node.value.id} has no {node.attr}")
        if isinstance(node, ast.Call):
            problems += call_problems(node, known)
    return problems


def call_problems(call: ast.Call, known: Mapping[str, Any]) -> list[str]:
    """Keywords that what is called does not take; what is not known cannot be said anything of."""
    function = resolve(call.func, known)
    if not callable(function):
        return []
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # built in, without a signature
        return []
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    given = {keyword.arg for keyword in call.keywords if keyword.arg}
    return [f"{ast.unparse(call.func)} takes no {name}" for name in sorted(given - parameters.keys())]


def resolve(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """The object that a name or a chain of attributes means; calls that return an object of a class mean the class."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(resolve(node.value, known), node.attr, None)
    if isinstance(node, ast.Call):
        function = resolve(node.func, known)
        if inspect.isclass(function):
            return function
        owner = resolve(node.func.value, known) if isinstance(node.func, ast.Attribute) else None
        # Class methods that open something, and methods that return their object.
        return owner if inspect.isclass(owner) and returns_its_class(function, owner) else None
    return None


def returns_its_class(function: Any, owner: type) -> bool:
    annotation = getattr(function, "__annotations__", {}).get("return", "")
    return str(annotation).strip("'\"").removeprefix("typing.") in (owner.__name__, "Self")


@every_page
def test_python_compiles_and_names_what_exists(path):
    blocks = [fence.text for fence in fences(path.read_text(encoding="utf-8")) if fence.language == "python"]
    assert [problem for block in blocks for problem in python_problems(block)] == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def f(:", "line 1"),
        ("from nnsam.metrics import dices", "nnsam.metrics has no dices"),
        ("import nnsam\nnnsam.nothing_of_this_name", "nnsam has no nothing_of_this_name"),
        ("from nnsam.metrics import dice\ndice(a, b, spacings=1)", "dice takes no spacings"),
        ("from nnsam.runtime import Bundle\nBundle.open('b', precision_of='f32')", "Bundle.open takes no precision_of"),
    ],
)
def test_wrong_python_is_noticed(source, problem):
    (found,) = python_problems(source)
    assert found.startswith(problem)


# ---- Commands


def command_lines(script: str) -> Iterator[list[str]]:
    """The words of every simple command of a script, without comments and assignments."""
    script = re.sub(r"\\\n", " ", script)
    for line in script.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.commenters = "#"
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("&|;"):
                yield words
                words = []
            elif words or not re.fullmatch(r"\w+=.*", word):
                words.append(word)
        yield words


def command_problem(words: list[str]) -> str | None:
    """Why this command line does not parse; None where it does, or is none of ours."""
    if "-tr" in words:
        try:
            trainer_class(words[words.index("-tr") + 1])
        except (LookupError, InputError) as error:
            return str(error)
    if words[:1] != ["nnsam"]:
        return None
    try:
        parser(words[1] if len(words) > 1 else "").parse_args(words[1:])
    except SystemExit as stop:
        return f"{shlex.join(words)}: refused with exit code {stop.code}" if stop.code else None
    return None


@cache
def parser(command: str) -> argparse.ArgumentParser:
    return build_parser(command if command in COMMANDS else None)


@every_page
def test_command_lines_parse(path, capsys):
    blocks = [fence.text for fence in fences(path.read_text(encoding="utf-8")) if fence.language == "bash"]
    problems = [command_problem(words) for block in blocks for words in command_lines(block)]
    assert [problem for problem in problems if problem] == [], capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "nnsam segments MODEL -i a.png --box 1,2,3,4 -o b.png",
        "nnsam segment MODEL -i a.png --boxen 1,2,3,4 -o b.png",
        "nnsam predict bundle -i images",
        "A=1 nnsam doctor --yaml",
        "pip install . && nnsam demo --in folder   # a comment",
        "nnUNetv2_train 1 2d 0 -tr nnSAMTrainer_5epoch",
        "nnUNetv2_train 1 2d 0 -tr nnSAMTrainers",
    ],
)
def test_a_wrong_command_line_is_noticed(line):
    assert any(command_problem(words) for words in command_lines(line))


def test_command_lines_are_split_as_a_shell_would():
    script = 'export A="b c"\nX=1 nnsam demo --out \\\n  d  # e\npip install ".[test]" && nnsam doctor'
    assert list(command_lines(script)) == [
        ["export", "A=b c"],
        ["nnsam", "demo", "--out", "d"],
        ["pip", "install", ".[test]"],
        ["nnsam", "doctor"],
    ]


def option_strings(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a command and of its actions."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found |= option_strings(child)
    return found


def inline_problems(markdown: str) -> list[str]:
    """Commands and options that the prose names and that do not exist."""
    problems = []
    for code in re.findall(r"`(nnsam [^`]+)`", prose(markdown)):
        words = code.split()
        if words[1] not in COMMANDS and not words[1].startswith("-"):
            problems.append(f"{code}: no command {words[1]}")
            continue
        options = {word for word in words if word.startswith("--")}
        problems += [f"{code}: no option {name}" for name in sorted(options - option_strings(parser(words[1])))]
    return problems


@every_page
def test_commands_in_the_text_exist(path):
    assert inline_problems(path.read_text(encoding="utf-8")) == []


def test_a_wrong_command_in_the_text_is_noticed():
    text = "`nnsam demos`, `nnsam export --onyx`, `nnsam fewshot run --jobs 2`"
    assert inline_problems(text) == ["nnsam demos: no command demos", "nnsam export --onyx: no option --onyx"]


# ---- Links


def anchors(markdown: str) -> set[str]:
    """What can stand after # in a link to a page: its headings, and the names of the API that it shows."""
    titles = re.findall(r"^#+ +(.+?)\s*$", prose(markdown), re.MULTILINE)
    names = re.findall(r"^::: ([\w.]+)", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles} | set(names)


def dead_links(path: Path, markdown: str) -> list[str]:
    """Relative links and pictures of a page that lead nowhere."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(markdown)):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists():
            dead.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8") if name else markdown):
            dead.append(f"{link}: no such heading")
    return dead


@every_page
def test_links_lead_somewhere(path):
    assert dead_links(path, path.read_text(encoding="utf-8")) == []


def test_dead_links_are_noticed():
    text = "# A title\n[a](#a-title) [b](#b) [c](docs/index.md) ![d](docs/nothing.png) [e](docs/results.md#nothing)"
    assert dead_links(ROOT / "README.md", text) == [
        *("#b: no such heading", "docs/nothing.png: no such file", "docs/results.md#nothing: no such heading")
    ]


def test_pictures_are_small():
    assert all(path.stat().st_size < 100_000 for path in (DOCS / "images").glob("*"))


# ---- Lists that have to be complete


def documentation() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in PAGES)


def missing(names: set[str], text: str) -> list[str]:
    """Names that a text does not hold as words of their own."""
    return sorted(name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))


def test_every_command_is_told_of():
    assert missing({f"nnsam {command}" for command in COMMANDS}, documentation()) == []


def test_every_trainer_is_told_of():
    assert missing(set(TRAINERS), documentation()) == []


def test_every_extra_is_told_of():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = {f"`{extra}`" for extra in setup["options.extras_require"]}
    assert missing(extras, (DOCS / "getting-started.md").read_text()) == []


def test_the_variables_are_those_that_the_code_reads():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "nnsam").rglob("*.py"))
    read = set(re.findall(r"\bNNSAM_[A-Z_]+\b", sources))
    told = set(re.findall(r"`(NNSAM_[A-Z_]+)", (DOCS / "weights.md").read_text()))
    assert read == told


def test_what_is_missing_from_a_list_is_noticed():
    assert missing({"nnsam demo", "nnsam de", "int8"}, "`nnsam demo`") == ["int8", "nnsam de"]


def test_the_packages_for_a_machine_without_pytorch_are_those_that_doctor_asks_for():
    from nnsam.cli.doctor import RUNTIME_MODULES

    blocks = [fence.text for fence in fences((DOCS / "cpu-bundles.md").read_text()) if fence.language == "bash"]
    (line,) = [
        words for block in blocks for words in command_lines(block) if words[:3] == ["pip", "install", "openvino"]
    ]
    assert set(line[2:]) == {*RUNTIME_MODULES.values(), "openvino", "rich"}


# ---- The API reference


def documented() -> list[str]:
    """The names that the API pages ask mkdocstrings for."""
    return [name for path in API for name in re.findall(r"^::: ([\w.]+)", path.read_text(), re.MULTILINE)]


def named(name: str) -> Any:
    """The module, or what is in one, that a dotted name means.

    Raises:
        LookupError: there is no such thing.
    """
    module, _, attribute = name.rpartition(".")
    try:
        owner = importlib.import_module(module)
        return getattr(owner, attribute) if hasattr(owner, attribute) else importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise LookupError(name) from error


def unknown(names: Iterable[str]) -> list[str]:
    """Dotted names that mean nothing."""
    found = []
    for name in names:
        try:
            named(name)
        except LookupError:
            found.append(name)
    return found


def undocumented(room: str, names: Iterable[str]) -> list[str]:
    """Public names of a room that mean none of the things that `names` mean."""
    told = [id(named(name)) for name in names]
    package = importlib.import_module(room)
    return [name for name in getattr(package, "__all__", ()) if id(getattr(package, name)) not in told]


def test_the_api_pages_name_what_exists():
    assert unknown(documented()) == []


def test_a_name_that_does_not_exist_is_noticed():
    names = ["nnsam.metrics.dice", "nnsam.prompts.box_files", "nnsam.metrics.dices", "nnsam.metricses.dice"]
    assert unknown(names) == names[2:]


@pytest.mark.parametrize("path", [path for path in API if path.name != "index.md"], ids=lambda path: path.stem)
def test_every_public_name_is_in_the_api_reference(path):
    room = "nnsam" if path.stem == "nnsam" else f"nnsam.{path.stem}"
    assert undocumented(room, documented()) == []


def test_a_public_name_that_is_not_in_the_reference_is_noticed():
    told = ["nnsam.metrics.dice", "nnsam.metrics.surface.hausdorff95", "nnsam.metrics.surface_dice"]
    assert undocumented("nnsam.metrics", told) == ["average_surface_distance"]


# ---- How the house is built


def allowed_imports() -> dict[str, set[str]]:
    """The allow-list of test_layering.py."""
    tree = ast.parse((ROOT / "tests" / "test_layering.py").read_text())
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "ALLOWED"
    ]
    assert value is not None
    return eval(compile(ast.Expression(value), "test_layering.py", "eval"))


def told_imports(markdown: str) -> dict[str, set[str]]:
    """The rooms and those that they may know, from the table of the page."""
    rows = re.findall(r"^\| `(\w+)` \| .*? \| ([^|]*?) \|$", markdown, re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", known)) for room, known in rows}


def test_the_page_on_the_house_tells_who_may_know_whom():
    expected, told = allowed_imports(), told_imports((DOCS / "architecture.md").read_text())
    wrong = [
        f"{room}: expected {', '.join(f'`{name}`' for name in sorted(known)) or 'none'}"
        for room, known in expected.items()
        if told.get(room) != known
    ]
    assert wrong == [], "mend the table in docs/architecture.md"
    assert told.keys() == expected.keys()


def test_a_wrong_table_is_noticed():
    table = "| room | holds | may know |\n|---|---|---|\n| `io` | files | `support`, `a` |\n| `root` | doors | none |\n"
    assert told_imports(table) == {"io": {"support", "a"}, "root": set()}


def test_the_modules_and_names_that_the_house_is_explained_by_exist():
    assert unknown_modules((DOCS / "architecture.md").read_text()) == []


def unknown_modules(markdown: str) -> list[str]:
    """Paths and dotted names of this repository that a page names in code, and that do not exist."""
    paths = re.findall(r"`((?:nnsam|tests|trainers|examples|docs)/[\w./]*)`", markdown)
    names = re.findall(r"`(nnsam(?:\.\w+)+)`(?<!\.pth`)", markdown)
    return [path for path in paths if not (ROOT / path).exists()] + unknown(names)


def test_unknown_modules_are_noticed():
    assert unknown_modules("`nnsam/io/`, `nnsam/oi.py`, `nnsam.metrics.dice`, `nnsam.metrics.dices`") == [
        *("nnsam/oi.py", "nnsam.metrics.dices")
    ]


# ---- The site


def load(name: str) -> Any:
    """A module of docs/_extensions, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_extensions" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("html", "addresses"),
    [
        ('<a href="https://example.org">paper</a>', []),
        ('<script src="assets/a.js"></script>', []),
        ('<script defer src="https://cdn.example/a.js"></script>', ["https://cdn.example/a.js"]),
        ("<img alt='x' src=//cdn.example/a.png>", ["//cdn.example/a.png"]),
    ],
)
def test_pages_that_fetch_something_from_elsewhere_are_noticed(html, addresses):
    assert load("offline").fetched(html) == addresses


def test_docstrings_become_markdown():
    pytest.importorskip("griffe", reason="extra docs")
    text = "See :func:`~nnsam.io.read` and :mod:`nnsam`.\n\nExample:\n    >>> 1\n\nSo::\n\n    code"
    assert load("roles").as_markdown(text) == (
        "See `nnsam.io.read` and `nnsam`.\n\nExamples:\n    >>> 1\n\nSo:\n\n    code"
    )
