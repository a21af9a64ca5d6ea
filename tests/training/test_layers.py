"""The packages of `training/`, read without importing them, since torch is not installed here."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Each package may import those before it, and itself.
LAYERS = ["data", "learning", "image", "lite", "text", "measuring"]


def modules() -> dict[str, ast.Module]:
    """The syntax trees of training's modules by their names."""
    paths = (ROOT / "training").rglob("*.py")
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {name: ast.parse(path.read_text("utf-8")) for name, path in names.items()}


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that a module imports from training, with the modules that they come from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("training"):
            yield from ((node.module or "", alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("training") for alias in node.names)


def defined(tree: ast.Module) -> set[str]:
    """The names that a module defines itself."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        for target in node.targets if isinstance(node, ast.Assign) else []:
            names.update(part.id for part in ast.walk(target) if isinstance(part, ast.Name))
    return names


def test_imports_point_one_way_and_find_what_they_name() -> None:
    trees = modules()
    for name, tree in trees.items():
        layer = LAYERS.index(name.split(".")[1]) if name.count(".") == 2 else -1
        for module, imported in imports(tree):
            assert LAYERS.index(module.split(".")[1]) <= layer, (name, module)
            assert imported in defined(trees[module]), (name, module, imported)


def test_the_commands_of_the_makefile_and_the_readme_exist() -> None:
    trees = modules()
    texts = [(ROOT / path).read_text("utf-8") for path in ("Makefile", "training/README.md")]
    texts += [ast.get_docstring(tree) or "" for tree in trees.values()]
    commands = {command for text in texts for command in re.findall(r"-m (training[\w.]*)", text)}
    assert len(commands) >= 8
    for command in commands:
        assert "main" in defined(trees[command]), command
