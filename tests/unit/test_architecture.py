"""Modules import in the order in which data flows, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import deidlib

ROOT = Path(deidlib.__file__).parent
#: Parts in the order in which data flows; parts of one line do not import each other.
ORDER = (
    ("errors", "distribution"),
    ("logs", "schema", "keys", "compute"),
    ("config",),
    ("contract",),
    ("storage",),
    ("pages",),
    ("models", "run_lock"),
    ("intake",),
    ("vision",),
    ("regions",),
    ("generators",),
    ("donors",),
    ("embedders",),
    ("inversion",),
    ("blending",),
    ("checks",),
    ("outcomes",),
    ("columns",),
    ("reid",),
    ("review",),
    ("release",),
    ("panel",),
    ("report",),
    ("running", "demo", "training"),
    ("cli",),
)
PLACE = {part: place for place, parts in enumerate(ORDER) for part in parts}


def modules(root: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def only_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(node: ast.AST, inside: bool):
    """Import statements below a node; ``inside``: those of functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not only_for_types(child) and (inside or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield from statements(child, inside)


def imported(path: Path, known: dict[str, Path], inside: bool) -> set[str]:
    found = set()
    for node in statements(ast.parse(path.read_text()), inside):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert not node.level, f"{path.name} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
            names = [n for n in names if n != node.module or any(f"{n}.{a.name}" not in known for a in node.names)]
        found |= {name for name in names if name in known}
    return found


def graph(root: Path, inside: bool = True) -> dict[str, set[str]]:
    known = modules(root)
    return {name: imported(path, known, inside) - {name} for name, path in known.items()}


def part(module: str) -> str:
    return module.split(".")[1]


def against(imports: dict[str, set[str]]) -> list[str]:
    return sorted(
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        if "." in module and "." in other and part(module) != part(other) and PLACE[part(other)] >= PLACE[part(module)]
    )


def test_every_part_has_a_place():
    assert {part(name) for name in modules(ROOT) if "." in name} <= set(PLACE)


def test_there_is_no_import_circle():
    tuple(TopologicalSorter(graph(ROOT)).static_order())


def test_no_module_imports_what_comes_after_it():
    assert against(graph(ROOT)) == []


def test_the_command_line_is_imported_by_no_other_part():
    imports = graph(ROOT)
    assert not [name for name, others in imports.items() if "cli" not in name and any(".cli" in o for o in others)]


def test_a_circle_and_a_wrong_import_are_seen(tmp_path):
    root = tmp_path / "deidlib"
    for name, text in {
        "__init__": "",
        "storage/__init__": "",
        "storage/a": "from deidlib.storage import b",
        "storage/b": "def late():\n    from deidlib.storage.a import x\n    from deidlib.cli import c",
        "cli/__init__": "",
        "cli/c": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.py").write_text(text)
    imports = graph(root)
    assert against(imports) == ["deidlib.storage.b imports deidlib.cli.c"]
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(imports).static_order())
