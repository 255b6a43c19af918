"""The package as a whole: light import, public names with docstrings, one look at sizes."""

import ast
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxkit as jk

ROOT = Path(jk.__file__).parent
HEAVY = ("diffrax", "optax", "flax", "matplotlib", "rich", "safetensors", "equinox")


def python(code):
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


def test_import_brings_in_jax_alone():
    assert python(f"import sys, jaxkit; print([m for m in {HEAVY!r} if m in sys.modules])") == "[]"


def test_import_does_not_touch_the_precision():
    assert python("import jaxkit, jax; print(jax.numpy.ones(()).dtype)") == "float32"


@pytest.mark.parametrize("name", [n for n in jk.__all__])
def test_every_public_name_resolves_and_is_documented(name):
    value = getattr(jk, name)
    assert inspect.getdoc(value), name
    assert name in dir(jk)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = jk.nonsense


def matplotlib_imports(tree, inside=""):
    """Names of the functions that import matplotlib ("" at the top); imports for the type checker aside."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.split(".")[0] == "matplotlib" for name in names):
            yield inside
        yield from matplotlib_imports(node, node.name if isinstance(node, ast.FunctionDef) else inside)


def test_matplotlib_only_in_report_and_in_functions_that_plot():
    for path in ROOT.rglob("*.py"):
        for function in matplotlib_imports(ast.parse(path.read_text())):
            drawing = function.lstrip("_").startswith(("plot_", "animate_", "shade_", "draw_", "paint_"))
            assert path.parent.name == "report" or drawing, (path, function)


def test_no_module_grows_beyond_reason():
    sizes = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert max(sizes.values()) <= 450, {k: v for k, v in sizes.items() if v > 400}


def test_every_subject_has_a_run_and_a_place_in_the_layers():
    contracts = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layer = next(row for row in contracts[0]["layers"] if "jaxkit.gan" in row)
    assert {part.strip(" ()") for part in layer.split("|")} == {f"jaxkit.{name}" for name in jk.SUBJECTS}
    assert all((ROOT / name / "run.py").is_file() for name in jk.SUBJECTS)
