"""The parser: what it reads, what it refuses, and that its numbers, derivatives and text agree with others'."""

import math
import random
import time

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxkit.core.expression import Expression, ParseError, parse, parse_equations
from jaxkit.core.expression.functions import FUNCTIONS
from jaxkit.core.expression.parser import DEPTH, NODES

READ = {
    "x exp(x) - 2": "x*exp(x) - 2",
    "2x": "2*x",
    "3 sin(x)": "3*sin(x)",
    "(x+1)(x-1)": "(x + 1)*(x - 1)",
    "-x^2": "-x^2",
    "2^-x": "2^(-x)",
    "x^2^3": "x^2^3",
    "x**2": "x^2",
    "1/2x": "1/2*x",
    "a - (b - c)": "a - (b - c)",
    "|x - 1||y|": "abs(x - 1)*abs(y)",
    "||x| - 1|": "abs(abs(x) - 1)",
    "sin²(x) + x⁻¹²": "sin(x)^2 + x^(-12)",
    "2π r": "2*pi*r",
    "√2x": "sqrt(2)*x",
    "x₁ × x₂ − ½".replace("½", "0.5"): "x1*x2 - 0.5",
    "ln(x)": "log(x)",
    "ｘ＋１": "x + 1",
    "1.5e3x": "1500*x",
    "2e": "2*e",
    "(x)2": "x*2",
}
REFUSED = {
    "": (0, "no expression"),
    "x +": (3, "ends too early"),
    "(x": (0, "never closed"),
    "x)": (1, "closing"),
    "|x": (0, "never closed"),
    "2 3": (2, "side by side"),
    "sinn(x)": (0, "did you mean 'sin'"),
    "x + xsin(x)": (4, "x*sin"),
    "xy": (0, "x*y"),
    "sin x": (0, "parentheses"),
    "sin^-1(x)": (4, "asin"),
    "1e999": (0, "too large"),
    "½x": (0, "fraction"),
    ".e2": (0, "Unexpected character"),
    "x $ 2": (2, "Unexpected character"),
    "a, b": (1, "comma"),
    "x = 1": (2, "without `=`"),
    "().__class__": (2, "Unexpected"),
    "__import__('os').system('true')": (11, "Unexpected character"),
    "__import__(x)": (0, "Unknown name"),
    "x" * 1001: (1000, "at most 1000"),
    "(" * 100 + "x" + ")" * 100: (DEPTH + 1, "deep"),
    "-" * 500 + "x": (DEPTH, "deep"),
    "+".join(["x"] * 200): (259, f"more than {NODES}"),
}


@pytest.mark.parametrize(("typed", "printed"), READ.items())
def test_reads(typed, printed):
    assert str(parse(typed)) == printed
    assert parse(printed) == parse(str(parse(printed)))


@pytest.mark.parametrize(("typed", "where"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refuses_with_a_caret(typed, where):
    with pytest.raises(ParseError) as caught:
        parse(typed)
    position, reason = where
    assert reason in caught.value.reason
    if "more than" not in reason:
        assert caught.value.position == position
    shown, caret = str(caught.value).split("\n")[-2:]
    assert caret.strip() == "^"
    if typed and position < len(typed):
        assert shown[caret.index("^")] == typed[position]


def test_declared_names_win():
    assert parse("E - e*sin(E) - M", ("E", "e", "M")).names == ("E", "e", "M")
    assert [text for text, _ in parse_equations("x == 1; y = x")] == ["x = 1", "y = x"]
    with pytest.raises(ParseError, match="the names are a, x"):
        parse("x + q", ("x", "a"))


def test_second_equals_sign_is_refused():
    with pytest.raises(ParseError, match="A second"):
        parse_equations("x = 1 = 2")


ALPHABET = [
    "x",
    "y",
    "1",
    "2.5",
    "e",
    "pi",
    "i",
    "sin(",
    "exp(",
    "(",
    ")",
    "|",
    "+",
    "-",
    "*",
    "/",
    "^",
    "**",
    "=",
    ";",
]
ALPHABET += [
    " ",
    "\t",
    "\n",
    ".",
    "..",
    "1e9",
    "²",
    "½",
    "√",
    "∞",
    "😀",
    "\x00",
    "'",
    '"',
    "__",
    "lambda",
    "\\",
    "ﬁ",
    "Å",
    "٣",
]


def _fuzz(count, seed):
    """Random token soup and random characters: nothing but `ParseError` may escape; the slowest in seconds."""
    rng = random.Random(seed)  # noqa: S311
    slowest, read = 0.0, 0
    for k in range(count):
        if k % 3:
            text = "".join(rng.choices(ALPHABET, k=rng.randint(0, 60)))
        else:
            text = "".join(chr(rng.randrange(1, 0x2FFF)) for _ in range(rng.randint(0, 40)))
        start = time.process_time()
        try:
            parse_equations(text)
            read += 1
        except ParseError:
            pass
        slowest = max(slowest, time.process_time() - start)
    return slowest, read


def test_fuzz():
    assert _fuzz(5000, seed=0)[1] > 10


@pytest.mark.slow
def test_fuzz_hundred_thousand():
    assert _fuzz(100_000, seed=1)[1] > 300


@hypothesis.given(st.text(max_size=80))
def test_any_text_gives_an_expression_or_a_parse_error(text):
    try:
        parse_equations(text)
    except ParseError as error:
        assert 0 <= error.position <= len(text)  # noqa: PT017


def _pairs(name):
    """A function of the table as (value, derivative) by Python's math, kept in its domain."""
    table = {
        "exp": lambda u: (math.exp(u), math.exp(u)),
        "sin": lambda u: (math.sin(u), math.cos(u)),
        "cos": lambda u: (math.cos(u), -math.sin(u)),
        "tanh": lambda u: (math.tanh(u), 1 - math.tanh(u) ** 2),
        "atan": lambda u: (math.atan(u), 1 / (1 + u * u)),
        "asinh": lambda u: (math.asinh(u), 1 / math.sqrt(1 + u * u)),
        "sinh": lambda u: (math.sinh(u), math.cosh(u)),
        "cosh": lambda u: (math.cosh(u), math.sinh(u)),
        "erf": lambda u: (math.erf(u), 2 / math.sqrt(math.pi) * math.exp(-u * u)),
        "log": lambda u: (math.log(u), 1 / u),
        "sqrt": lambda u: (math.sqrt(u), 0.5 / math.sqrt(u)),
    }
    return table[name]


def _random(rng, x, depth):
    """A random formula as text, with its value and derivative computed beside it: an independent evaluator."""
    if depth == 0 or rng.random() < 0.15:
        if rng.random() < 0.6:
            return "x", x, 1.0
        number = rng.choice([0.5, 2.0, 3.0, 1.25, 7.0])
        return str(number), number, 0.0
    kind = rng.choice(["+", "-", "*", "/", "^", "neg", "call", "call"])
    a, u, du = _random(rng, x, depth - 1)
    if kind == "neg":
        return f"-({a})", -u, -du
    if kind == "^":
        n = rng.choice([2, 3, 5, -1, -2])
        return f"({a})^{n}", u**n, n * u ** (n - 1) * du
    if kind == "call":
        name = rng.choice(["exp", "sin", "cos", "tanh", "atan", "asinh", "sinh", "cosh", "erf", "log", "sqrt"])
        value, slope = _pairs(name)(u)
        return f"{name}({a})", value, slope * du
    b, v, dv = _random(rng, x, depth - 1)
    value, slope = {
        "+": lambda: (u + v, du + dv),
        "-": lambda: (u - v, du - dv),
        "*": lambda: (u * v, du * v + u * dv),
        "/": lambda: (u / v, (du * v - u * dv) / v**2),
    }[kind]()
    return f"({a}){kind}({b})", value, slope


def _formulas(count, seed):
    rng = random.Random(seed)  # noqa: S311
    made = 0
    while made < count:
        x = rng.uniform(0.3, 2.0)
        try:
            text, value, slope = _random(rng, x, 4)
        except (ValueError, ZeroDivisionError, OverflowError):
            continue
        if isinstance(value, float) and 1e-6 < abs(value) < 1e6 and abs(slope) < 1e6 and len(text) <= 1000:
            made += 1
            yield text, x, value, slope


def _conditioned(text, x, value):
    """Formulas in which rounding `x` alone changes the value by more than the tolerance say nothing."""
    f = parse(text)
    near = [float(f.on_host(x=x * (1 + d))) for d in (-1e-15, 1e-15)]
    return all(abs(v - value) < 2e-13 * max(1, abs(value)) for v in near)


def _agreement(count, seed):
    kept = 0
    for text, x, value, slope in _formulas(count, seed):
        if not _conditioned(text, x, value):
            continue
        kept += 1
        f = parse(text)
        assert parse(str(f)) == parse(str(parse(str(f)))), text
        assert abs(float(f.on_host(x=x)) - value) <= 1e-12 * max(1, abs(value)), text
        assert abs(float(parse(str(f)).on_host(x=x)) - value) <= 1e-12 * max(1, abs(value)), text
        got = float(f.derivative("x").on_host(x=x))
        assert abs(got - slope) <= 1e-8 * max(1, abs(slope)), text
    return kept


def test_values_and_derivatives_agree_with_an_independent_evaluator():
    assert _agreement(1000, seed=2) > 900


@pytest.mark.slow
def test_ten_thousand_values_and_derivatives():
    assert _agreement(10_000, seed=3) > 9000


def test_jax_agrees_with_the_host():
    """JAX's value and `jax.grad` against the independent evaluator, a few formulas to a program."""
    chosen = list(_formulas(60, seed=4))
    functions = [parse(text).function("x") for text, *_ in chosen]

    @jax.jit
    def both(x):
        return [jax.value_and_grad(lambda v, f=f: jnp.asarray(f(v), float))(x[k]) for k, f in enumerate(functions)]

    found = both(jnp.array([x for _, x, _, _ in chosen]))
    for (text, _, value, slope), (v, dv) in zip(chosen, found, strict=True):
        assert abs(float(v) - value) <= 1e-11 * max(1, abs(value)), text
        assert abs(float(dv) - slope) <= 1e-8 * max(1, abs(slope)), text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_the_derivative_jax_finds(name):
    x = 1.3 if name == "acosh" else 0.37
    f = parse(f"{name}(x)")
    want = jax.grad(lambda v: f(x=v))(x)
    np.testing.assert_allclose(f.derivative("x").on_host(x=x), want, rtol=1e-12)
    np.testing.assert_allclose(f.on_host(x=x), f(x=x), rtol=1e-14)
    assert f.latex().count("{") == f.latex().count("}")
    if FUNCTIONS[name].holomorphic:
        z = x + 0.2j
        slope = jax.jvp(lambda v: f(x=v), (jnp.asarray(z),), (jnp.asarray(1 + 0j),))[1]
        np.testing.assert_allclose(f.derivative("x").on_host(x=np.asarray(z)), slope, rtol=1e-12)


def test_general_powers():
    f = parse("x^y + e^(x*y)")
    assert str(f.derivative("y")) == "x^y*log(x) + e^(x*y)*x"
    np.testing.assert_allclose(f(x=2.0, y=3.0), 8 + math.exp(6), rtol=1e-14)
    assert np.isnan(parse("x^0.3").on_host(x=-1.0))
    assert parse("x^3").on_host(x=-2.0) == -8


def test_complex_and_latex():
    f = parse("z^2 + 2i z / sqrt(pi)")
    assert f.is_complex
    np.testing.assert_allclose(f(z=1 + 1j), (1 + 1j) ** 2 + 2j * (1 + 1j) / math.sqrt(math.pi))
    assert f.latex() == r"{z}^{2} + \frac{2 \mathrm{i} z}{\sqrt{\pi}}"
    assert not parse("|z|").is_holomorphic


def test_a_missing_value_is_named():
    with pytest.raises(ValueError, match="lack y"):
        parse("x + y")(x=1.0)
    assert isinstance(parse("x"), Expression)


def test_letters_above_the_line_and_indices_of_roots():
    at = lambda text, **values: float(parse(text)(**values))
    assert at("2ˣ", x=3.0) == 8
    assert at("3ᵗ⁺¹", t=1.0) == 9
    assert at("2 ³√x", x=8.0) == 4
    assert at("∜x + ∛y", x=16.0, y=27.0) == 5
    assert at("x³√y", x=2.0, y=9.0) == 24  # a power times a root
    with pytest.raises(ParseError, match=r"\^\(1/5\)"):
        parse("⁵√x")
    with pytest.raises(ParseError, match="too small"):
        parse("1e-400 x")
    assert at("0.000e5 + x", x=1.0) == 1


@pytest.mark.parametrize("text", ["x = 1e-310", "x^2 = 1e-320", "x - 2.2250738585072011e-308"])
def test_a_number_that_a_compiled_program_takes_for_zero_is_refused(text):
    with pytest.raises(ParseError, match="too small"):
        parse(text)
    assert float(parse("2.2250738585072014e-308 + 0.0e-400")()) == 2.2250738585072014e-308


def test_derivative_where_base_and_exponent_move():
    """Of `x^(2x)`, with `log x^(2x) = 2x log x`."""
    slope = parse("x^(2 x)", ["x"]).derivative("x")
    for x in (0.5, 1.0, 3.0):
        assert float(slope.on_host(x=x)) == pytest.approx(x ** (2 * x) * 2 * (np.log(x) + 1), rel=1e-13)
