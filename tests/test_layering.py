"""Who may import whom: read from the sources, so that a wrong import fails without being executed."""

import ast
import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "bench",
    "cli",
    "data",
    "export",
    "fewshot",
    "geometry",
    "inference",
    "losses",
    "metrics",
    "networks",
    "prompts",
    "runtime",
    "training",
    "weights",
)

# package -> (may be imported nowhere in it, may not be imported at module level)
RULES = {
    "geometry": ({"nnunetv2", "nnsam.training", "nnsam.networks", "nnsam.weights"}, set()),
    "prompts": ({"nnunetv2", "nnsam.training", "nnsam.networks", "nnsam.weights", "torch"}, set()),
    "inference": ({"nnunetv2.training"}, {"nnunetv2", "torch", "nnsam.training"}),
    "runtime": (
        {"nnunetv2", "torch", "torchvision", "timm", "nnsam.training", "nnsam.networks", "nnsam.export"},
        set(),
    ),
    "losses": ({"nnunetv2", "nnsam.training", "nnsam.networks", "nnsam.weights"}, set()),
    "metrics": ({"nnunetv2", "nnsam.training", "nnsam.networks", "nnsam.weights", "torch"}, set()),
    "networks": ({"nnunetv2.training", "nnsam.training", "nnsam.losses"}, {"nnunetv2"}),
    "weights": ({"nnunetv2", "nnsam.training", "nnsam.networks"}, {"torch"}),
    "data": ({"nnunetv2.training", "nnsam.training"}, {"nnunetv2", "torch"}),
    "fewshot": (set(), {"nnunetv2", "torch", "matplotlib", "monai"}),
    "cli": (set(), {"nnunetv2", "torch"}),
}
MAY_IMPORT_NNUNETS_TRAINING = {"training", "cli", "bench"}


def imports(source: str, module_level: bool = False) -> set[str]:
    """Full names of what a source imports; with `module_level`, only what importing it executes."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if not (module_level and (typing_only or in_function)):
                visit(child)

    visit(ast.parse(source))
    return found


def violations(found: set[str], forbidden: set[str]) -> set[str]:
    return {name for name in found for root in forbidden if name == root or name.startswith(f"{root}.")}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / "nnsam" / package).glob("**/*.py"))


@pytest.mark.parametrize("package", list(RULES))
def test_each_layer_imports_only_what_lies_below(package):
    nowhere, not_at_module_level = RULES[package]
    assert sources(package)
    for path in sources(package):
        text = path.read_text()
        assert violations(imports(text), nowhere) == set(), path
        assert violations(imports(text, module_level=True), not_at_module_level) == set(), path


def test_only_the_training_package_and_commands_import_nnunets_training():
    importing = {
        path.relative_to(ROOT / "nnsam").parts[0]
        for path in (ROOT / "nnsam").glob("**/*.py")
        if violations(imports(path.read_text()), {"nnunetv2.training"})
    }
    assert "training" in importing
    assert importing <= MAY_IMPORT_NNUNETS_TRAINING


@pytest.mark.parametrize(
    ("source", "everywhere", "at_module_level"),
    [
        ("import nnunetv2.training.x", {"nnunetv2.training.x"}, {"nnunetv2.training.x"}),
        ("from nnunetv2 import training", {"nnunetv2.training"}, {"nnunetv2.training"}),
        ("def f():\n    import torch", {"torch"}, set()),
        ("class A:\n    import torch\n    def f(self):\n        import timm", {"torch", "timm"}, {"torch"}),
        ("try:\n    import torch\nexcept ImportError:\n    pass", {"torch"}, {"torch"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", None, {"typing.TYPE_CHECKING"}),
    ],
)
def test_the_reader_of_imports_finds_them_all(source, everywhere, at_module_level):
    assert imports(source) == (everywhere or {"torch", "typing.TYPE_CHECKING"})
    assert imports(source, module_level=True) == at_module_level


def test_a_forbidden_import_is_reported():
    assert violations({"nnunetv2.paths", "numpy", "nnunetv2x"}, {"nnunetv2"}) == {"nnunetv2.paths"}


def listed_packages() -> set[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return set(setup["options"]["packages"].split())


def test_setup_cfg_lists_every_package():
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "nnsam").glob("**/*.py")}
    assert listed_packages() == {".".join(folder.parts) for folder in folders} | {"nnsam.trainers"}
    assert {f"nnsam.{package}" for package in PACKAGES} <= listed_packages()


def test_every_package_folder_can_be_imported_as_one():
    for name in listed_packages() - {"nnsam.trainers"}:
        assert (ROOT / Path(*name.split(".")) / "__init__.py").is_file(), name
    assert (ROOT / "trainers" / "__init__.py").is_file()
