"""Interval enclosures against Arb: whatever the rounding, the true range lies inside."""

import math
import random
from fractions import Fraction

import flint
import numpy as np
import pytest

from jaxkit.core.expression import Expression, parse, tree
from jaxkit.core.expression.interval import FUNCTION, interval

flint.ctx.prec = 200
DOMAIN = {"log": (1e-9, 50), "log10": (1e-9, 50), "log2": (1e-9, 50), "sqrt": (0, 50), "asin": (-1, 1), "acos": (-1, 1)}
DOMAIN |= {"acosh": (1, 50), "atanh": (-0.999, 0.999), "tan": (-1.5, 1.5), "exp": (-700, 700), "sinh": (-50, 50)}
ARB = {
    "log10": lambda u: u.log() / flint.arb(10).log(),
    "log2": lambda u: u.log() / flint.arb(2).log(),
    "cbrt": lambda u: u.root(3) if u > 0 else -((-u).root(3)),
    "abs": abs,
    "sign": lambda u: u.sgn() if u.is_finite() else u,  # (that of no number would be -1 to 1)
}


def arb(name, value):
    """A function of the table, at a float, to 200 bits."""
    exact = flint.arb(float(value))
    return ARB[name](exact) if name in ARB else getattr(exact, name)()


@pytest.mark.parametrize("name", FUNCTION)
def test_functions_enclose(name):
    """At random points of random intervals, Arb's value (a ball of 200 bits) lies within the float bounds."""
    rng = np.random.default_rng(0)
    low, high = DOMAIN.get(name, (-40, 40))
    lo = rng.uniform(low, high, 300)
    hi = np.minimum(lo + rng.exponential(size=300) * rng.choice([0, 1e-12, 1e-3, 1, 10], 300), high)
    with np.errstate(all="ignore"):
        found = FUNCTION[name](interval(lo, hi))
    for k in range(300):
        if name == "cbrt" and lo[k] <= 0 <= hi[k]:
            continue
        for x in (lo[k], hi[k], lo[k] + rng.uniform() * (hi[k] - lo[k])):
            x = min(max(x, lo[k]), hi[k])
            true = arb(name, x)
            assert flint.arb(float(found.lo[k])) <= true or flint.arb(float(found.lo[k])).overlaps(true), (name, x)
            assert flint.arb(float(found.hi[k])) >= true or flint.arb(float(found.hi[k])).overlaps(true), (name, x)
    narrow = lo == hi
    finite = narrow & (found.lo != 0) & np.isfinite(found.lo)
    assert np.all(found.width[finite] <= 40 * np.spacing(np.abs(found.lo[finite])))  # and not by luck of width


def test_arithmetic_encloses_exact_fractions():
    rng = random.Random(1)  # noqa: S311
    for _ in range(300):
        a, b, c, d = (rng.uniform(-3, 3) for _ in range(4))
        for op in ("+", "-", "*", "/"):
            f = parse(f"(x {op} y) {op} (z + w)")
            names = dict(zip("xyzw", (a, b, c, d), strict=True))
            found = f.enclose({k: interval(v) for k, v in names.items()})
            exact = {k: Fraction(v) for k, v in names.items()}
            first, last = (exact["x"], exact["y"]), exact["z"] + exact["w"]
            do = {"+": lambda p, q: p + q, "-": lambda p, q: p - q, "*": lambda p, q: p * q, "/": lambda p, q: p / q}[
                op
            ]
            true = do(do(*first), last)
            assert Fraction(float(found.lo)) < true < Fraction(float(found.hi))


def test_formulas_enclose_values_and_slopes():
    """Random points of a box: value and derivative by Arb's own arithmetic lie within."""
    f = parse("sin(x^2) + sin(x)^2 - exp(-(x-5)^2/10) + 0.1/x")
    box = interval(np.linspace(0.5, 9.5, 50), np.linspace(0.5, 9.5, 50) + 0.1)
    value, slope = f.enclose_slope({"x": box}, "x")
    rng = np.random.default_rng(2)
    for k in range(50):
        for x in rng.uniform(box.lo[k], box.hi[k], 5):
            u = flint.arb(float(x))
            tenth = flint.arb(1) / 10
            bell = (-((u - 5) ** 2) / 10).exp()
            true = (u * u).sin() + u.sin() ** 2 - bell + tenth / u
            rate = 2 * u * (u * u).cos() + 2 * u.sin() * u.cos() + (u - 5) / 5 * bell - tenth / u**2
            assert flint.arb(float(value.lo[k])) < true < flint.arb(float(value.hi[k]))
            assert flint.arb(float(slope.lo[k])) < rate < flint.arb(float(slope.hi[k]))


def test_literals_that_are_not_floats_are_widened():
    tenth = parse("0.1").enclose({})
    assert flint.arb(float(tenth.lo)) < flint.arb(1) / 10 < flint.arb(float(tenth.hi))
    half = parse("0.5").enclose({})
    assert half.lo == half.hi == 0.5
    pi = parse("pi").enclose({})
    assert flint.arb(float(pi.lo)) < flint.arb.pi() < flint.arb(float(pi.hi))


def test_domains_and_poles():
    at = lambda text, lo, hi: parse(text).enclose({"x": interval(lo, hi)})
    assert np.isnan(at("log(x)", -2.0, -1.0).lo)
    assert not at("sqrt(x)", -1.0, 4.0).defined
    assert at("sqrt(x)", -1.0, 4.0).hi >= 2
    assert at("1/x", -1.0, 1.0).lo == -math.inf
    assert not at("tan(x)", 1.5, 1.6).defined
    assert at("cos(x)", -0.1, 0.1).hi == 1.0
    assert at("x^2", -1.0, 2.0).lo == 0.0
    assert at("|x|", -3.0, 2.0).hi == 3.0
    big = at("exp(x)", 800.0, 900.0)
    assert big.lo > 1e308
    assert big.hi == math.inf
    assert at("sin(x)", 1e12, 1e12).lo == -1.0  # nothing is promised far out


def grown(rng, depth):
    """A random tree in `x`, with a power that a name or a quotient raises now and then."""
    if depth == 0 or rng.random() < 0.15:
        return tree.Name("x") if rng.random() < 0.6 else tree.Number(rng.choice([0.0, 0.5, 1.0, 2.0, 3.0, 1e-8, 1e8]))
    kind = rng.random()
    if kind < 0.45:
        return tree.Apply(rng.choice("+-*/"), (grown(rng, depth - 1), grown(rng, depth - 1)))
    if kind < 0.65:
        exponents = [tree.Name("n"), tree.Apply("/", (tree.Number(4.0), tree.TWO)), tree.Apply("neg", (tree.ONE,))]
        exponents += [tree.Number(v) for v in (2.0, 3.0, 0.5, 0.3)]
        return tree.Apply("^", (grown(rng, depth - 1), rng.choice(exponents)))
    name = rng.choice([*sorted(FUNCTION), "neg", "neg"])
    return tree.Apply(name, (grown(rng, depth - 1),))


def by_arb(node, values):
    """The value by Arb, NaN where it is not a real number."""

    def apply(op, args, nodes):
        del nodes
        if op == "^":
            base, exponent = args
            whole = exponent.unique_fmpz()
            if whole is not None and abs(int(whole)) < 100:
                return base ** int(whole)
            return base**exponent if base > 0 else flint.arb("nan")
        simple = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b}
        if op in simple:
            return simple[op](*args)
        if op == "neg":
            return -args[0]
        if op == "cbrt" and args[0].contains(0):
            return flint.arb("nan")
        return ARB[op](args[0]) if op in ARB else getattr(args[0], op)()

    return tree.fold(node, lambda n: flint.arb(n.value), {k: flint.arb(v) for k, v in values.items()}, apply)


def test_random_formulas_enclose_what_arb_and_the_evaluator_give():
    """A million of these were run once; an enclosure that loses a value, or calls a box empty that is not, fails."""
    rng, places = random.Random(3), np.random.default_rng(3)  # noqa: S311
    judged = 0
    for _ in range(1500):
        formula = Expression(grown(rng, 4))
        power = rng.choice([3.0, 2.0, -1.0, 0.7])
        middle = places.choice([0.0, 1.0, -1.0, *places.normal(size=3) * 3])
        lo, hi = sorted([middle, middle + places.choice([0.0, 1e-9, 0.3, 20.0]) * places.uniform()])
        found = formula.enclose({"x": interval(lo, hi), "n": interval(power)})
        for x in (lo, hi, min(max(0.5 * (lo + hi), lo), hi)):
            value = by_arb(formula.tree, {"x": float(x), "n": power})
            at = {"x": np.float64(x), "n": np.float64(power)}
            steps = [Expression(part).on_host(**at) for part in tree.walk(formula.tree)]  # the whole formula first
            float_value = float(np.real(steps[0])) if np.all(np.isfinite(steps)) else math.inf
            said = f"{formula} at x = {x!r}, n = {power}: {found}, {value}, {float_value}"
            if value.is_finite() and value.rad() < 1e-30 * (1 + abs(value.mid())):
                judged += 1
                assert not found.empty, said
                assert not flint.arb(float(found.lo)) > value, said
                assert not flint.arb(float(found.hi)) < value, said
            if np.isfinite(float_value):
                assert not found.empty, said
                assert found.lo <= float_value <= found.hi, said
    assert judged > 2000


def test_an_infinite_bound_is_not_an_empty_set():
    at = lambda text, lo, hi, **known: parse(text).enclose({"x": interval(lo, hi)} | known)
    assert not at("log(x)^2", 0.0, 1.0).empty
    assert at("log(x)^2", 0.0, 1.0).hi == math.inf
    assert not at("|1/x|", -1.0, 1.0).empty
    assert at("sqrt(x)", -2.0, -1.0).empty
    assert at("sqrt(x) + log(x)^2", -2.0, -1.0).empty
    cube = at("x^n", -2.0, -2.0, n=interval(3.0))
    assert cube.lo <= -8 <= cube.hi
    assert cube.width < 1e-13
    slope = parse("x^n").enclose_slope({"x": interval(-2.0), "n": interval(3.0)}, "x")[1]
    assert slope.lo <= 12 <= slope.hi
    assert slope.width < 1e-12
