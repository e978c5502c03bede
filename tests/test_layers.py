"""The structure, read off the syntax trees: who may import whom, and what is written nowhere.

Imports count wherever they stand, inside functions and for type checkers too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("rwkv_runtime", "pipeline", "jobs")
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((REPOSITORY / package).rglob("*.py"))
}
COMMAND_LINE = ("yaml", "typer", "click", "rich", "pydantic")
FORBIDDEN = {
    "rwkv_runtime": ("pipeline", "jobs", "ray", "pypdf", "sentencex", *COMMAND_LINE),
    "pipeline": ("jobs", *COMMAND_LINE),
    "jobs": ("torch", "numpy", "ray", "safetensors", "tokenizers", "sentencex"),
}
ONLY_IMPORTER_OF_RAY = "pipeline.ray_pool"
CODE_FROM_DATA = ("_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
UNSAFE_YAML = ("load", "load_all", "full_load", "unsafe_load", "unsafe_load_all")


@dataclass(frozen=True)
class Import:
    """One imported name. `when_loaded`: the import is carried out when the module itself is imported."""

    name: str
    line: int
    when_loaded: bool

    def is_of(self, package: str) -> bool:
        return self.name == package or self.name.startswith(package + ".")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


@cache
def imports(module: str) -> tuple[Import, ...]:
    return tuple(_imports(tree(module), module, when_loaded=True))


def _imports(node: ast.AST, module: str, when_loaded: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, when_loaded) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}:{child.lineno}: imports are written with the whole name"
            yield from (Import(f"{child.module}.{alias.name}", child.lineno, when_loaded) for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(ast.Module(child.body, []), module, when_loaded=False)
            yield from _imports(ast.Module(child.orelse, []), module, when_loaded)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, module, when_loaded and not inside)


def nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """All nodes of a kind, each with its place."""
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, kind):
                yield f"{module}:{getattr(node, 'lineno', 0)}", node


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """All calls: place, the name called as it is written, node."""
    for place, node in nodes(ast.Call):
        assert isinstance(node, ast.Call)
        yield place, ast.unparse(node.func), node


@pytest.mark.parametrize("package", PACKAGES)
def test_no_layer_imports_what_is_above_it_or_belongs_to_another(package: str) -> None:
    wrong = [
        f"{module}:{found.line} imports {found.name}"
        for module in MODULES
        if module.split(".")[0] == package
        for found in imports(module)
        if any(found.is_of(forbidden) for forbidden in FORBIDDEN[package])
    ]

    assert wrong == []


def test_only_one_file_imports_ray() -> None:
    importers = {module for module in MODULES for found in imports(module) if found.is_of("ray")}

    assert importers == {ONLY_IMPORTER_OF_RAY}


def test_modules_import_each_other_without_cycles() -> None:
    graph = {module: {_module_of(found.name) for found in imports(module) if found.when_loaded} for module in MODULES}
    sorter = TopologicalSorter({module: needed - {"", module} for module, needed in graph.items()})

    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def _module_of(name: str) -> str:
    """The module of ours that an imported name is or stands in, or ''."""
    return next((part for part in (name, name.rpartition(".")[0]) if part in MODULES), "")


def test_modules_are_imported_by_names_that_stand_in_the_source() -> None:
    """Else the rules above would see half of the imports. Names in our own packages may be put together."""
    wrong = [
        f"{place}: {ast.unparse(node)}"
        for place, called, node in calls()
        if called.split(".")[-1] in ("import_module", "__import__") and not _is_our_own(node.args[0], place)
    ]

    assert wrong == []


def _is_our_own(name: ast.expr, place: str) -> bool:
    if place.startswith("pipeline.folder:"):
        return True  # it imports the modules of a package that it is given
    first = name.values[0] if isinstance(name, ast.JoinedStr) else name
    return isinstance(first, ast.Constant) and str(first.value).split(".")[0] == place.split(".")[0].split(":")[0]


def test_nothing_runs_code_that_comes_from_data() -> None:
    importers = [
        f"{module}:{found.line} imports {found.name}"
        for module in MODULES
        for found in imports(module)
        if any(found.is_of(name) for name in CODE_FROM_DATA)
    ]
    callers = [
        f"{place} calls {called}"
        for place, called, node in calls()
        if called in ("eval", "exec", "compile", "os.system")
        or (called.startswith("yaml.") and called.removeprefix("yaml.") in UNSAFE_YAML)
        or any(word.arg in ("shell", "allow_pickle", "trust_remote_code") for word in node.keywords)
    ]

    assert importers + callers == []


def test_of_pickle_only_the_name_of_its_error_is_used() -> None:
    """Torch's restricted unpickler raises it."""
    imported = {found.name for module in MODULES for found in imports(module) if found.is_of("pickle")}
    mentions = [ast.unparse(node) for _, node in nodes(ast.Name) if ast.unparse(node) == "pickle"]
    attributes = [ast.unparse(node) for _, node in nodes(ast.Attribute) if ast.unparse(node).startswith("pickle.")]

    assert imported <= {"pickle"}
    assert set(attributes) <= {"pickle.UnpicklingError"}
    assert len(mentions) == len(attributes)


def test_torch_loads_weights_only() -> None:
    loads = {
        place: {word.arg: ast.unparse(word.value) for word in node.keywords}
        for place, called, node in calls()
        if called == "torch.load"
    }

    assert loads
    assert [place for place, words in loads.items() if words.get("weights_only") != "True"] == []


def test_every_module_opens_with_what_it_does() -> None:
    assert [module for module in MODULES if not (ast.get_docstring(tree(module)) or "").strip()] == []


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = [
        f"{place} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for place, node in nodes(ast.FunctionDef)
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= 60
    ]

    assert long == []
