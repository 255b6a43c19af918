"""The way without a compiler: it says what `solve` says, or nothing."""

import importlib
import re

import numpy as np
import pytest

from jaxkit import newton
from jaxkit.newton.quick import quick_root

CLEAN = [
    ("x^3 = 2x + 5", None, None),
    ("x*exp(x) = 2", 1.0, None),
    ("cos(x) = x", None, None),
    ("sin(x) = x/2", 1.5, None),
    ("M = E - e*sin(E)", None, {"M": 1.0, "e": 0.9}),
    ("|x| = x^2 - 1", None, None),
    ("x^2 + y^2 = 4; x*y = 1", {"x": 2.0, "y": 0.5}, None),
]
DOUBTFUL = [
    "x^2 = 0",
    "x^2 + 1 = 0",
    "sqrt(x) + 1 = 0",
    "|x|^0.5 = 0",
    "x^3 = 0",
    "cbrt(x) = 0",
    "x*|x| = 0",
    "(x-1)^2 = 0",
    "x^2 - 2x + 1 = 1e-18",
    "x^2 = 2e-20",
    "log(x) = -30",
    "1e-12/x = 1e3",
    "1/x = 0",
    "tan(x) = 1e8",
    "exp(exp(x)) = 1e300",
    "exp(x) = 1",
    "x = x + 1",
    "z^2 = i",
    "(x + 20)^2 - 400 = 1.571",  # the last digits of its root are rounding
    "x^2 = y; y = 0",
    "x + y = 1; 2x + 2y = 2",
]


def numbers(text):
    return np.array([float(v) for v in re.findall(r"-?\d+\.?\d*(?:e[+-]\d+)?", text)])


@pytest.mark.parametrize(("text", "x0", "args"), CLEAN)
def test_it_says_what_solve_says(text, x0, args):
    system = newton.Equations.of(text, args, x0)
    quick, slow = quick_root(system, x0, args, certify=True), newton.solve(system, x0, args, certify=True)
    assert quick is not None
    assert quick.steps == int(slow.steps)
    assert not quick.failure
    lines, wanted = str(quick).splitlines(), str(slow).splitlines()
    assert len(lines) == len(wanted)
    for line, want in zip(lines, wanted, strict=True):
        if line[:4].strip().isdigit():  # iterates; the last ones' residuals, steps and orders are rounding
            unknowns = len(system.unknowns) + 1
            np.testing.assert_allclose(numbers(line)[:unknowns], numbers(want)[:unknowns], rtol=2e-12)
            np.testing.assert_allclose(
                numbers(line)[unknowns:][:2], numbers(want)[unknowns:][:2], rtol=0.01, atol=1e-13
            )
        elif line.startswith(("root", "proven")):
            assert re.sub(r"[+\d.e-]+", "", line) == re.sub(r"[+\d.e-]+", "", want)  # (the sign of a rounding, too)
            np.testing.assert_allclose(numbers(line), numbers(want), rtol=2e-15, atol=1e-14)
        else:
            assert line == want


@pytest.mark.parametrize("text", DOUBTFUL)
def test_where_there_is_doubt_it_says_nothing(text):
    assert quick_root(newton.Equations.parse(text)) is None


def test_double_roots_and_cycles_are_left_to_solve():
    assert quick_root(newton.Equations.parse("(x-1)^2 (x+2) = 0"), 3.0) is None
    assert quick_root(newton.Equations.parse("(x-1)^2 (x+2) = 0"), -3.0) is not None
    assert quick_root(newton.Equations.parse("x^3 - 2x + 2 = 0"), 0.0) is None
    assert quick_root(newton.Equations.parse("x^3 - 2x + 2 = 0"), -2.0) is not None


def test_complex_numbers_are_left_to_solve():
    system = newton.Equations.parse("x^2 = 4")
    assert quick_root(system, 3.0) is not None
    assert quick_root(system, 3 + 1j) is None
    assert quick_root(newton.Equations.parse("x = a", ("a",)), None, {"a": 1j}) is None
    assert quick_root(newton.Equations.parse("x = a", ("a",)), None, {"a": np.inf}) is None


def test_a_path_that_rounding_decides_is_left_to_solve():
    """From the default guess, more than thirty steps wander before one of six roots is reached."""
    assert quick_root(newton.Equations.parse("x + y + z = 6; x*y*z = 6; x^2 + y^2 + z^2 = 14")) is None


def test_the_first_guess_must_name_the_unknowns():
    with pytest.raises(ValueError, match="must have the names x, y"):
        quick_root(newton.Equations.parse("x = y; y = 2"), {"x": 1.0, "z": 2.0})


def test_a_root_is_as_close_as_it_is_said_to_be():
    """Wallis's root in 20 digits, and roots that are known exactly."""
    assert float(quick_root(newton.Equations.parse("x^3 = 2x + 5")).value) == 2.0945514815423265915
    for text, want in (("x^3 = x", -1.0), ("sin(x) = x/2", 0.0), ("x^2 = 4", 2.0), ("x^100 = 2", 2**0.01)):
        np.testing.assert_allclose(quick_root(newton.Equations.parse(text)).value, want, rtol=4e-16)


def test_a_function_is_not_hidden_by_the_module_of_its_name():
    for name in ("all_roots", "basins", "certify", "solve"):
        module = importlib.import_module(f"jaxkit.newton.{name}")
        newton.__dict__.pop(name, None)  # as before the name's first use
        setattr(newton, name, module)  # what an import does
        assert getattr(newton, name) is getattr(module, name)
