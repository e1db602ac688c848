"""Who may import whom: read from the sources, so that a wrong import fails without being executed."""

import ast
import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# room -> rooms that it may know; every import counts, also those inside functions. "root" are the modules of nnsam/
# itself without `errors`, which everybody may use.
ALLOWED: Mapping[str, set[str]] = {
    "root": set(),
    "support": set(),
    "geometry": set(),
    "losses": {"geometry"},
    "io": {"support"},
    "metrics": {"io", "support"},
    "prompts": {"geometry", "io", "support"},
    "weights": {"root", "support"},
    "networks": {"nnunet", "prompts", "support", "weights"},
    "nnunet": {"io", "prompts", "support"},
    "datasets": {"io", "nnunet", "support"},
    "inference": {"geometry", "io", "nnunet", "prompts", "root", "support"},
    "runtime": {"inference", "support"},
    "exporting": {"geometry", "inference", "io", "networks", "nnunet", "prompts", "support"},
    "training": {"geometry", "inference", "losses", "networks", "nnunet", "prompts", "support", "weights"},
    "fewshot": {"datasets", "io", "metrics", "nnunet", "support", "training"},
    "bench": {
        *(
            "datasets",
            "exporting",
            "geometry",
            "inference",
            "io",
            "metrics",
            "networks",
            "nnunet",
            "prompts",
            "support",
        ),
    },
    "cli": {
        *("bench", "datasets", "exporting", "fewshot", "inference", "io", "metrics", "networks", "nnunet", "prompts"),
        *("root", "support", "training", "weights"),
    },
}

# package that others publish -> rooms that may import it anywhere, rooms that may import it inside functions only.
THIRD_PARTY: Mapping[str, tuple[set[str], set[str]]] = {
    "torch": (
        {"exporting", "geometry", "losses", "networks", "training"},
        {"bench", "cli", "fewshot", "inference", "nnunet", "support", "weights"},
    ),
    "nnunetv2": (
        {"training"},
        {"bench", "cli", "datasets", "exporting", "fewshot", "inference", "networks", "nnunet"},
    ),
    "nnunetv2.training": ({"training"}, {"bench", "cli", "nnunet"}),
    "matplotlib": (set(), {"bench", "fewshot", "io", "training"}),
    "monai": (set(), {"networks", "training"}),
    "pandas": ({"fewshot"}, set()),
    "jinja2": ({"fewshot"}, set()),
}


class Imports:
    """What a module imports: everything, and what is executed when it is imported itself."""

    def __init__(self, source: str):
        self.all: set[str] = set()
        self.at_import: set[str] = set()
        self._visit(ast.parse(source), executed=True)

    def _visit(self, node: ast.AST, executed: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                self._visit(child, executed)
            return  # names for type checkers are never imported
        found: set[str] = set()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        self.all |= found
        if executed:
            self.at_import |= found
        in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            self._visit(child, executed and not in_function)


def room(name: str) -> str | None:
    """Room of a dotted name of this package; None for `nnsam.errors` and for what is not of this package."""
    parts = name.split(".")
    if parts[0] != "nnsam" or parts[1:2] == ["errors"]:
        return None
    return parts[1] if len(parts) > 1 and (ROOT / "nnsam" / parts[1]).is_dir() else "root"


def belongs_to(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def modules() -> Iterator[tuple[str, str, Imports]]:
    """(dotted name, room, imports) of every module."""
    for path in sorted((ROOT / "nnsam").glob("**/*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        where = parts[1] if len(parts) > 2 else "root"
        yield ".".join(parts), where, Imports(path.read_text(encoding="utf-8"))


MODULES = list(modules())


def forbidden(name: str, where: str, imports: Imports) -> list[str]:
    """Sentences on the imports of a module that its room may not make."""
    found = []
    for imported in sorted(imports.all):
        target = room(imported)
        if target not in (None, where) and target not in ALLOWED[where]:
            found.append(f"{name} imports {imported}: {where} may not know {target}")
        for package, (anywhere, inside) in THIRD_PARTY.items():
            if not belongs_to(imported, package) or where in anywhere:
                continue
            if where not in inside:
                found.append(f"{name} imports {imported}: {where} may not need {package}")
            elif imported in imports.at_import:
                found.append(f"{name} imports {imported} when it is imported; do it inside the function that needs it")
    return found


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Paths a -> b -> ... -> a through a graph, one for each way back that a depth-first walk meets."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> None:
        if node in path:
            found.append([*path[path.index(node) :], node])
        elif node not in done:
            for other in sorted(graph.get(node, ())):
                walk(other, [*path, node])
            done.add(node)

    for node in sorted(graph):
        walk(node, [])
    return found


@pytest.mark.parametrize(("name", "where", "imports"), MODULES, ids=[name for name, _, _ in MODULES])
def test_a_module_imports_only_what_its_room_may_know(name, where, imports):
    if name in ("nnsam.__main__", "nnsam.__init__"):  # the command's door, and the lazy names of the public API
        return
    assert forbidden(name, where, imports) == []


def test_the_allowed_imports_have_no_cycle():
    assert cycles(ALLOWED) == []
    assert set(ALLOWED) == {where for _, where, _ in MODULES}


def test_no_module_needs_itself_to_be_imported():
    names = {name.removesuffix(".__init__") for name, _, _ in MODULES}
    graph = {}
    for name, _, imports in MODULES:
        if name.endswith("__init__"):
            continue
        targets = {part if part in names else part.rpartition(".")[0] for part in imports.at_import}
        graph[name] = {target for target in targets if target in names and target != name}
    assert cycles(graph) == []


def test_every_allowance_is_used():
    used: dict[str, set[str]] = {where: set() for where in ALLOWED}
    used["runtime"] = {"inference"}  # by the names of its __getattr__
    for name, where, imports in MODULES:
        if name not in ("nnsam.__main__", "nnsam.__init__"):
            used[where] |= {target for target in map(room, imports.all) if target not in (None, where)}
    assert {where: allowed - used[where] for where, allowed in ALLOWED.items() if allowed - used[where]} == {}


@pytest.mark.parametrize(
    ("source", "everywhere", "at_import"),
    [
        ("import nnunetv2.training.x", {"nnunetv2.training.x"}, {"nnunetv2.training.x"}),
        ("from nnunetv2 import training", {"nnunetv2.training"}, {"nnunetv2.training"}),
        ("def f():\n    import torch", {"torch"}, set()),
        ("class A:\n    import torch\n    def f(self):\n        import timm", {"torch", "timm"}, {"torch"}),
        ("try:\n    import torch\nexcept ImportError:\n    pass", {"torch"}, {"torch"}),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import timm", {"timm"}, {"timm"}),
    ],
)
def test_the_reader_of_imports_finds_them_all(source, everywhere, at_import):
    assert Imports(source).all == everywhere
    assert Imports(source).at_import == at_import


@pytest.mark.parametrize(
    ("where", "source", "message"),
    [
        ("io", "from nnsam.training import checks", "io may not know training"),
        ("io", "def f():\n    import nnsam.cli.main", "io may not know cli"),
        ("metrics", "import torch", "metrics may not need torch"),
        ("inference", "from torch import nn", "when it is imported"),
        ("datasets", "def f():\n    from nnunetv2.training import x", "datasets may not need nnunetv2.training"),
    ],
)
def test_a_forbidden_import_is_named(where, source, message):
    (sentence,) = forbidden(f"nnsam.{where}.new", where, Imports(source))
    assert message in sentence
    assert sentence.startswith(f"nnsam.{where}.new imports ")


def test_allowed_imports_are_not_complained_about():
    source = "import numpy\nfrom nnsam.errors import InputError\nfrom nnsam.support.files import atomic_file\n"
    assert forbidden("nnsam.io.new", "io", Imports(source)) == []


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def listed_packages() -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return set(setup["options"]["packages"].split())


def test_setup_cfg_lists_every_package():
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "nnsam").glob("**/*.py")}
    assert listed_packages() == {".".join(folder.parts) for folder in folders} | {"nnsam.trainers"}


def test_setup_cfg_lists_every_file_that_is_no_module():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = {
        path
        for package, patterns in setup["options.package_data"].items()
        for pattern in patterns.split()
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    there = {path for path in (ROOT / "nnsam").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert listed == there
    assert len(there) > 4


def test_every_package_folder_can_be_imported_as_one():
    for name in listed_packages() - {"nnsam.trainers"}:
        assert (ROOT / Path(*name.split(".")) / "__init__.py").is_file(), name
    assert (ROOT / "trainers" / "__init__.py").is_file()


def test_the_root_holds_only_the_doors():
    assert {path.name for path in (ROOT / "nnsam").glob("*.py")} == {
        *("__init__.py", "__main__.py", "_autoload.py", "_build.py", "errors.py")
    }
