"""What a student types, and what comes back: roots, proofs, fractals, sentences."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxkit.tools
from jaxkit import Status, newton
from jaxkit.compile.contents import contents
from jaxkit.tools import cli
from jaxkit.tools.cli import main

HARD = "sin(x^2) + sin(x)^2 = exp(-(x-5)^2/10)"


def test_typed_equation():
    r = newton.solve("x*exp(x) = 2", x0=1.0, certify=True).checked()
    np.testing.assert_allclose(r.value, 0.8526055020137255, rtol=1e-15)
    low, high = r.enclosure["x"]
    assert low < 0.85260550201372549 < high
    assert high - low < 1e-14
    shown = str(r)
    assert "f'(x) = exp(x) + x*exp(x)" in shown
    assert "exactly one root" in shown


def test_no_real_root_is_proven():
    r = newton.solve("x^2 + 1 = 0")
    assert not bool(r.ok)
    assert "no real root in [-1000, 1000]: proven" in r.remark
    z = newton.solve("x^2 + 1 = 0", 1 + 1j).checked()
    np.testing.assert_allclose(z.value, 1j, atol=1e-12)


@pytest.mark.parametrize("name", ["min", "max", "floor", "ceil", "gamma"])
def test_a_function_that_text_cannot_hold_is_named(name):
    with pytest.raises(newton.ParseError, match=f"The function {name} is not known in typed text"):
        newton.Equations.parse(f"{name}(x) = 2")
    assert newton.Equations.parse("gamma*(x - 1) = 2", ("gamma",)).unknowns == ("x",)


def test_double_root_is_named():
    r = newton.solve("(x-1)^2 (x+2) = 0", x0=3.0).checked()
    assert "multiplicity 2" in r.remark
    assert "No proof" in newton.solve("(x-1)^2 = 0", x0=3.0, certify=True).remark


def test_cycle_is_named_and_roots_elsewhere_are_proven():
    r = newton.solve("x^3 - 2x + 2 = 0", x0=0.0, method="newton")
    assert Status(int(r.status)) == Status.cycle
    assert "-1.76929" in r.remark


def test_systems_parameters_and_derivatives():
    r = newton.solve("x^2 + y^2 = r^2; x*y = 1", {"x": 2.0, "y": 0.5}, {"r": 2.0}, certify=True).checked()
    x, y = (float(r.value[name]) for name in "xy")
    np.testing.assert_allclose([x**2 + y**2, x * y], [4, 1], rtol=1e-14)
    assert all(low < value < high for value, (low, high) in zip((x, y), r.enclosure.values(), strict=True))
    slope = jax.grad(lambda a: newton.solve("x^3 = a", 1.0, {"a": a}).value)(8.0)
    np.testing.assert_allclose(slope, 1 / 12, rtol=1e-10)


def test_functions_are_solved_too():
    r = newton.solve(lambda x, a: {"p": x["u"] ** 2 - a, "q": x["v"] - x["u"]}, {"u": 1.0, "v": 0.0}, 9.0).checked()
    np.testing.assert_allclose(r.value["v"], 3.0, rtol=1e-12)
    assert "x = " in str(r)


@pytest.mark.slow
def test_distinct_roots():
    found = newton.distinct_roots("x^2 + y^2 = 4; x*y = 1", {"x": 2.0, "y": 0.5})
    assert sorted(round(float(r["x"]), 5) for r in found) == [-1.93185, -0.51764, 0.51764, 1.93185]


BAD = {
    "did you mean 'sin'": lambda: newton.solve("sinn(x) = 1"),
    "as many as their unknowns, x, y": lambda: newton.solve("x = y"),
    "must contain an unknown": lambda: newton.solve("1 = 2"),
    "must be text or a function": lambda: newton.solve(3),
    "dictionary with the names x, y": lambda: newton.solve("x=y; y=2", 1.0),
    "must have the names x, y": lambda: newton.solve("x=y; y=2", {"x": 1.0, "z": 2.0}),
    "free of abs": lambda: newton.solve("|z| = i"),
    "must be real for a proof": lambda: newton.solve("z^2 = i", certify=True),
    "finite with a < b": lambda: newton.all_roots("x", (1, 0)),
    "must have one unknown": lambda: newton.all_roots("x + y = 1; x = y", (0, 1)),
    "text for a proof": lambda: newton.all_roots(lambda x: x, (0, 1), certify=True),
    "n >= 1": lambda: newton.polynomial_roots([1.0]),
    "a < b, c < d": lambda: newton.basins("z^2 = 1", (1, 0, 0, 1)),
    "leading axis": lambda: newton.solve_many(lambda x, a: x - a, jnp.ones(3), jnp.ones(2)),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_input_gets_one_sentence(sentence):
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")):
        BAD[sentence]()


def test_all_32_roots_are_proven_and_found():
    proven = newton.all_roots(HARD, (0, 10), certify=True)
    assert proven.complete
    assert len(proven.values) == 32
    assert np.max(np.diff(proven.enclosures, axis=1)) < 1e-13
    quick = newton.all_roots(HARD, (0, 10))
    np.testing.assert_allclose(quick.values, proven.values, atol=1e-13)
    f = newton.parse("sin(x^2) + sin(x)^2 - exp(-(x-5)^2/10)")
    assert np.all(f.on_host(x=proven.enclosures[:, 0]) * f.on_host(x=proven.enclosures[:, 1]) < 0)


def test_poles_edges_and_double_roots_are_never_proven():
    assert newton.all_roots("tan(x) = x", (1, 6), certify=True).kinds == ("undecided", "proven", "undecided")
    assert newton.all_roots("tan(x) = x", (1, 6)).values.size == 1
    both = newton.all_roots("(x-1)^2 (x+2) = 0", (-5, 5), certify=True)
    assert both.kinds == ("proven", "undecided")
    assert not both.complete
    touching = newton.all_roots("sin(x) = 1", (0, 20))
    assert touching.kinds == ("double",) * 3
    np.testing.assert_allclose(touching.values, np.pi * (0.5 + 2 * np.arange(3)), atol=1e-7)
    ends = newton.all_roots("x^3 - x = 0", (-1, 1), certify=True)
    assert ends.complete
    np.testing.assert_allclose(ends.values, [-1, 0, 1], atol=1e-15)
    assert newton.all_roots("x^2 + 1 = 0", (-9, 9), certify=True).sentence.startswith("No roots")


@pytest.mark.slow
def test_wilkinsons_polynomial_is_reported_as_ill_conditioned():
    """Its expanded coefficients are not floats: roots move in the first digits, and nothing may hide that."""
    r = newton.polynomial_roots(np.poly(np.arange(1, 21))).checked()
    error = np.min(np.abs(np.asarray(r.value)[:, None] - np.arange(1, 21)), axis=1)
    assert float(jnp.max(r.condition)) > 1e13
    assert np.all(error <= np.asarray(r.error))
    assert np.all(np.asarray(r.ill_conditioned)[error > 1e-4])
    well = newton.polynomial_roots(np.poly([1.0, 2.0, 3.0]))
    assert not bool(jnp.any(well.ill_conditioned))


def test_polynomial_roots_in_lanes_with_derivatives():
    rng = np.random.default_rng(0)
    c = jnp.asarray(rng.normal(size=(200, 8)))
    found = jax.jit(jax.vmap(newton.polynomial_roots))(c).checked()
    for k in range(200):
        want = np.roots(np.asarray(c[k]))
        gap = np.abs(np.asarray(found.value[k])[:, None] - want[None, :]).min(1)
        assert np.all(gap <= 1e-9 * (1 + np.asarray(found.condition[k]) * 1e-3))
    largest = lambda a: jnp.max(newton.polynomial_roots(jnp.array([1.0, 0.0, 0.0, 0.0]).at[3].set(-a)).value.real)
    np.testing.assert_allclose(jax.jit(jax.grad(largest))(8.0), 1 / 12, rtol=1e-9)
    assert Status(int(newton.polynomial_roots([0.0, 1.0, 2.0]).status)) == Status.not_applicable


def test_badly_scaled_polynomials():
    roots = 10.0 ** np.arange(-12.0, 13.0, 4.0)
    found = newton.polynomial_roots(np.poly(roots)).checked()
    np.testing.assert_allclose(np.sort(np.abs(found.value)), roots, rtol=1e-9)


def test_kepler_in_chunks_with_gradient():
    rng = np.random.default_rng(0)
    orbit = {"e": jnp.asarray(0.9 * rng.random(2500)), "M": jnp.asarray(np.pi * rng.random(2500))}
    kepler = lambda E, p: E - p["e"] * jnp.sin(E) - p["M"]
    solve = jax.jit(lambda p: newton.solve_many(kepler, p["M"] + 0.85 * p["e"], p, chunk=1000))
    found = solve(orbit).checked()
    assert float(jnp.max(found.residual)) < 1e-12
    slope = jax.grad(lambda p: jnp.sum(solve(p).value))(orbit)["M"]
    np.testing.assert_allclose(slope, 1 / (1 - orbit["e"] * jnp.cos(found.value)), rtol=1e-9)


def test_basins_agree_with_a_plain_loop():
    found = newton.basins("z^3 = 1", size=64)
    np.testing.assert_allclose(found.roots, np.exp(2j * np.pi * np.array([2, 1, 0]) / 3), atol=1e-9)
    axis = np.linspace(-2, 2, 64)
    z = axis[None, :] + 1j * axis[:, None]
    for _ in range(30):
        z = z - (z**3 - 1) / (3 * z**2)
    nearest = np.argmin(np.abs(z[..., None] - np.asarray(found.roots)), axis=-1)
    index = np.asarray(found.root)
    assert np.mean((index == nearest) | (index < 0)) > 0.999
    assert np.mean(index >= 0) > 0.99
    share = [float(np.mean(index == k)) for k in range(3)]
    assert share[0] == pytest.approx(share[1], abs=0.01)  # mirror images


def test_basins_fall_back_to_complex_numbers():
    """`tan` has no split form; the two ways agree where both exist."""
    found = newton.basins("tan(z) = z", size=16)
    assert np.isfinite(np.asarray(found.roots)).all()
    axes = newton.plot_basins(found)
    assert axes.get_xlabel() == "Re z"
    axes.figure.clear()


def test_command(capsys, tmp_path):
    assert main(["root", "x^3 = 2x + 5", "--certify", "--plot", str(tmp_path / "a.png")]) == 0
    shown = capsys.readouterr().out
    assert "x = 2.094551481542327" in shown
    assert "exactly one root" in shown
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert main(["root", "x^2 = a", "--set", "a=2", "--interval", "0", "2"]) == 0
    assert main(["root", "x^2 = -1", "--interval", "0", "1"]) == 1
    assert main(["root", "sin(x) = 1/2", "--all", "--interval", "0", "pi"]) == 0
    assert "2 roots by sign changes" in capsys.readouterr().out
    proving = ["root", "x^2 = 2", "--all", "--certify", "--proof", str(tmp_path / "a.json")]
    assert main(proving) == 0
    assert verified(tmp_path / "a.json").startswith("confirmed")
    assert main([flag for flag in proving if flag != "--certify"]) == 2
    assert "`--proof` must go with --certify" in capsys.readouterr().err
    assert main(["root", "sinn(x)"]) == 2
    assert "did you mean 'sin'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "ends", "pieces"),
    [
        ("log(x)^2 = 4", (-10, 10), {"one root": 2}),
        ("tan(x)^2 = 3", (-4, 4), {"one root": 4, "undecided": 2}),
        ("x^-2 + sqrt(x) = acosh(x) + cbrt(x)/3 + 1", (-3, 9), {"one root": 1}),
        ("x^2 = 4", (-2, 10), {"one root": 2}),
        ("x^1.5 = asinh(x) + tanh(x) - 1", (-3, 5), {}),
    ],
)
def test_a_proof_is_verified_by_another_arithmetic_and_a_false_one_refuted(text, ends, pieces, tmp_path):
    found = newton.all_roots(text, ends, certify=True)
    claims = [piece.claim for piece in newton.save_proof(tmp_path / "a.json", found)]
    assert {c: claims.count(c) for c in set(claims) - {"no root"}} == pieces
    assert verified(tmp_path / "a.json").startswith("confirmed")
    proof = json.loads((tmp_path / "a.json").read_text())
    rooted = [piece for piece in proof["pieces"] if "within" in piece]
    for lie in ({"claim": "no root"}, {"within": rooted[0]["ends"][1:] * 2}) if rooted else ():
        (tmp_path / "b.json").write_text(
            json.dumps(proof | {"pieces": [rooted[0] | lie], "interval": rooted[0]["ends"]})
        )
        assert "REFUTED" in verified(tmp_path / "b.json")
    (tmp_path / "b.json").write_text(json.dumps(proof | {"pieces": proof["pieces"][1:]}))
    assert "REFUTED" in verified(tmp_path / "b.json")


def verified(path):
    program = Path(jaxkit.tools.__file__).with_name("check_proof.py")
    done = subprocess.run([sys.executable, str(program), str(path)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_run(tmp_path):
    from rich.console import Console

    from jaxkit.newton.run import run

    verdict = run(tmp_path, quick=True, console=Console(quiet=True))
    assert verdict.ok, verdict.sentence
    assert all(path.stat().st_size > 1000 for path in verdict.files)


def test_a_typed_equation_is_parsed_once_on_its_whole_way(monkeypatch, tmp_path, capsys):
    calls, parsed = [], newton.Equations.parse.__func__

    def counted(cls, text, *names):
        calls.append(text)
        return parsed(cls, text, *names)

    monkeypatch.setattr(newton.Equations, "parse", classmethod(counted))
    assert (
        cli.main(["root", "x^2 = a", "--set", "a=2", "--x0", "1", "--certify", "--plot", str(tmp_path / "a.png")]) == 0
    )
    assert calls == ["x^2 = a"]
    assert cli.main(["root", "x^2 = 2", "--all", "--certify", "--plot", str(tmp_path / "b.png")]) == 0
    assert calls == ["x^2 = a", "x^2 = 2"]
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert (tmp_path / "b.png").stat().st_size > 1000
    capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "ends", "args", "roots"),
    [
        ("log(x)^2 = 4", (-10, 10), None, [np.exp(-2), np.exp(2)]),
        ("x^n + 8 = 0", (-10, 10), {"n": 3.0}, [-2]),
        ("x^(4/2) = 4", (-10, 10), None, [-2, 2]),
        ("x^-n = 1/4", (-10, 10), {"n": 2.0}, [-2, 2]),
        ("cosh(1/x) = 2", (-3, 3), None, [-1 / np.arccosh(2), 1 / np.arccosh(2)]),
        ("x^2 = 1", (0, 1), None, [1]),
        ("10x = 1", (0, 0.1), None, [0.1]),
        ("x^2 = 2", (2**0.5, 3), None, []),  # the float is above the root
    ],
)
def test_nothing_is_proven_away(text, ends, args, roots):
    found = newton.all_roots(text, ends, args, certify=True)
    assert found.complete
    assert set(found.kinds) <= {"proven"}
    np.testing.assert_allclose(found.values, roots, rtol=1e-12)
    assert np.all((ends[0] <= found.enclosures) & (found.enclosures <= ends[1]))


def test_poles_may_stay_undecided_but_no_root_is_lost():
    found = newton.all_roots("tan(x)^2 = 3", (-100, 100), certify=True)
    assert found.kinds.count("proven") == 128
    assert not found.complete
    found = newton.all_roots("((x+1)/(x-1))^2 = 4", (-50, 50), certify=True)
    proven = found.values[np.array(found.kinds) == "proven"]
    np.testing.assert_allclose(proven, [1 / 3, 3])


def test_crumbs_between_undecided_places_are_not_listed_one_by_one():
    flat = newton.all_roots("erf(x) = 1", (-10, 100), certify=True)
    assert flat.kinds == ("undecided",)
    assert 5 < flat.enclosures[0, 0] < 7
    assert flat.enclosures[0, 1] == 100
    # Two double roots stay two, and a simple one between them is still proven.
    apart = newton.all_roots("(x - 1)^2*(x - 1.00001)*(x - 1.00002)^2 = 0", (0, 2), certify=True)
    assert apart.kinds == ("undecided", "proven", "undecided")


def test_a_scan_compares_signs_and_says_what_it_does_not_know():
    scan = newton.all_roots
    np.testing.assert_allclose(scan("1e-170*(x^2-2)=0", (0, 3)).values, [2**0.5])
    np.testing.assert_allclose(scan("(x-1)*(x-1.0002)", (0, 3)).values, [1, 1.0002])
    flat = scan("tanh(x) = 1", (-10, 100))
    assert len(flat.values) == 0
    assert 19 < flat.flat[0, 0] < 21
    assert "zero to rounding" in flat.sentence
    assert scan("(x-1)^2 = 0", (0, 2)).kinds == ("double",)
    assert len(scan("sin(x) = 0", (1, 31415)).values) == 9999
    coarse = scan("sin(x) = 0", (1, 3e7))
    assert not coarse.resolved
    assert "too coarse" in coarse.sentence


def test_what_the_user_names_is_a_name(capsys):
    assert cli.main(["root", "M = E - e*sin(E)", "--set", "M=1, e=0.9"]) == 0
    assert "1.862086686" in capsys.readouterr().out
    assert cli.main(["root", "V = i*R", "--set", "V=5, R=2", "--x0", "i=1"]) == 0
    assert "i = 2.5" in capsys.readouterr().out
    assert cli.main(["root", "V = i*R", "--set", "V=5, R=2"]) == 2
    assert "`i` is read as the imaginary unit" in capsys.readouterr().err
    assert cli.main(["root", "x^2 = a", "--set", "a=2, b=3"]) == 2
    assert "has b" in capsys.readouterr().err
    assert cli.main(["root", "x = a", "--set", "a=-1+2i"]) == 0
    assert "-1 + 2i" in capsys.readouterr().out
    assert cli.main(["root", "z^2 = -2i", "--x0", "-1+1i"]) == 0
    assert "-1 + 1i" in capsys.readouterr().out


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_the_condition_of_a_root_is_relative(size):
    """Of `z^2 = c^2`: `2 c^2 / (c * 2 c) = 1`, in any unit; of `(z - c)(z - 1.01 c)` it is large."""
    found = newton.polynomial_roots([1.0, 0.0, -(size**2)]).checked()
    np.testing.assert_allclose(found.condition, 1, rtol=1e-9)
    near = newton.polynomial_roots(np.poly([size, 1.01 * size])).checked()
    np.testing.assert_allclose(sorted(near.condition), [402, 406], rtol=0.01)


def test_text_is_read_once_and_looking_at_derivatives_keeps_the_program():
    first = newton.Equations.parse("x^2 + 3x = 7")
    key = contents(first)
    assert newton.Equations.parse("x^2 + 3x = 7") is first
    assert first.derivatives == ("f'(x) = 2*x + 3",)
    assert contents(first) == key
    assert contents(newton.Equations.parse("x^2 + 3x = 8")) != key
    assert contents(newton.Equations.parse("0*x + x = 0").residuals) != contents(
        newton.Equations.parse("-0*x + x = 0").residuals
    )

    class Noted(newton.Equations):
        pass

    notes = [Noted(first.shown, first.residuals, first.unknowns) for _ in range(2)]
    vars(notes[1])["note"] = 1.0
    assert contents(notes[0]) != contents(notes[1])
