"""Verify again, without jaxkit, the proof that `python -m jaxkit root "..." --all --certify --proof FILE` writes.

It needs only python-flint. Pieces cover the interval: in one without a root, the formula's bounds exclude zero, or it
is monotone with equal signs at both ends; in one with a root, it is monotone and changes sign within the given bounds.
"""

import json
import sys
from fractions import Fraction

from flint import arb, arb_series, ctx

ctx.prec, ctx.cap, CONSTANTS = 128, 2, {"pi": arb.pi(), "e": arb(1).exp()}
INF, NAN, U, ONE, TWO = arb("inf"), arb("nan"), ["name", "u"], ["number", "1", "1"], ["number", "2", "2"]
TEN, ROOT = ["number", "0xa", "0xa"], lambda op: ["sqrt", [op, ["*", U, U], ONE]]
DEFINED = {"tan": ["/", ["sin", U], ["cos", U]], "cot": ["/", ["cos", U], ["sin", U]], "sec": ["/", ONE, ["cos", U]]}
DEFINED |= {"csc": ["/", ONE, ["sin", U]], "acos": ["-", ["/", ["pi"], TWO], ["asin", U]]}
DEFINED |= {"sinh": ["/", ["-", ["exp", U], ["exp", ["neg", U]]], TWO], "log2": ["/", ["log", U], ["log", TWO]]}
DEFINED |= {"cosh": ["/", ["+", ["exp", U], ["exp", ["neg", U]]], TWO], "acosh": ["log", ["+", U, ROOT("-")]]}
DEFINED |= {"tanh": ["-", ONE, ["/", TWO, ["+", ["exp", ["+", U, U]], ONE]]], "log10": ["/", ["log", U], ["log", TEN]]}
DEFINED |= {"asinh": ["*", ["sign", U], ["log", ["+", ["abs", U], ROOT("+")]]]}
DEFINED |= {"atanh": ["/", ["log", ["/", ["+", ONE, U], ["-", ONE, U]]], TWO]}
DEFINED |= {"cbrt": ["*", ["sign", U], ["^", ["abs", U], ["/", ONE, ["number", "3", "3"]]]]}
DOMAIN = dict.fromkeys(("exp", "atan"), (-INF, INF)) | dict.fromkeys(("log", "sqrt"), (arb(0), INF))
DOMAIN |= {"asin": (arb(-1), arb(1))}


def _hull(*values):  # NaN may be any number
    some = [INF, -INF] if any(v.is_nan() for v in values) else values
    return min(v.lower() for v in some), max(v.upper() for v in some)


def _bounds(op, u, v, n):  # the range of an operation over intervals; n is its second argument if that is a fraction
    if op in DOMAIN:  # increasing
        low, high = DOMAIN[op]
        if u[1] < low or u[0] > high:
            raise ArithmeticError  # undefined for all of these numbers
        first, last = (getattr(end, op)() for end in (max(u[0], low), min(u[1], high)))
        return -INF if first.is_nan() else first.lower(), INF if last.is_nan() else last.upper()
    if op == "/" and (v[0] >= 0 or v[1] <= 0):
        return _bounds("*", u, _hull(1 / v[1] if v[1] != 0 else -INF, 1 / v[0] if v[0] != 0 else INF), None)
    if op == "^" and n is not None and n.denominator == 1 and n >= 0:
        ends = [end ** int(n) if end.is_finite() or n == 0 else INF if n % 2 == 0 else end for end in u]
        return _hull(*ends, arb(int(n == 0))) if n % 2 == 0 and u[0] <= 0 <= u[1] else _hull(*ends)
    if op == "^" and (u[0] >= 0 or n is not None):
        return _bounds("exp", _bounds("*", v, _bounds("log", u, u, None), None), u, None)
    if op == "^":  # only integer powers are defined
        return _hull(*(sign * _bounds("^", _bounds("abs", u, u, None), v, None)[1] for sign in (-1, 1)))
    ball = u[0].union(u[1]) if u[0].is_finite() and u[1].is_finite() else NAN
    own = dict.fromkeys(("sin", "cos", "erf"), lambda: [getattr(ball, op)()] if ball.is_finite() else [arb(-1), arb(1)])
    own |= {
        "+": lambda: (u[0] + v[0], u[1] + v[1]),
        "-": lambda: (u[0] - v[1], u[1] - v[0]),
        "neg": lambda: (-u[1], -u[0]),
    }
    own |= {"*": lambda: [arb(0) if a == 0 or b == 0 else a * b for a in u for b in v]}
    own |= {"abs": lambda: [abs(u[0]), abs(u[1])] + [arb(0)] * bool(u[0] <= 0 <= u[1])}
    own |= {"sign": lambda: [arb(int(end > 0) - int(end < 0)) for end in u]}
    return _hull(*own.get(op, lambda: [NAN])())


def _series(op, u, v, n):  # value and derivative of a smooth operation; NaN where it is not smooth
    sign = arb(1) if u[0] > 0 else arb(-1) if u[0] < 0 else NAN
    if op == "^" and n is not None and n.denominator == 1 and n >= 0:
        return u ** int(n)
    own = {"+": lambda: u + v, "-": lambda: u - v, "*": lambda: u * v, "neg": lambda: -u}
    own |= {"abs": lambda: u * sign, "sign": lambda: arb_series([sign]), "^": lambda: (u.log() * v).exp()}
    own |= {"/": lambda: u / v if v[0] > 0 or v[0] < 0 else arb_series([NAN])}
    return own.get(op, lambda: getattr(u, op)())()


def _fold(node, names, apply, number, known):  # a formula in an algebra; `known` are the names that stand for fractions
    op, *rest = node
    if op in ("name", "number") or not rest:
        ends = [CONSTANTS[op]] if not rest else [arb(float.fromhex(end)) for end in rest if op == "number"]
        return number(*ends) if ends else names[rest[0]]
    args = [_fold(part, names, apply, number, known) for part in rest]
    if op in DEFINED:
        return _fold(DEFINED[op], {"u": args[0]}, apply, number, {})
    return apply(op, args[0], args[-1], _fraction(rest[-1], known))


def _fraction(node, known):
    op, *rest = node
    if op in ("name", "number"):
        exact = op == "number" and rest[0] == rest[1]
        return known.get(rest[0]) if op == "name" else Fraction(float.fromhex(rest[0])) if exact else None
    a, b = (args := [_fraction(part, known) for part in rest] or [None])[0], args[-1]
    if None in args or op not in ("+", "-", "*", "/", "^", "neg") or (op == "/" and not b):
        return None
    if op in "/^":
        return a / b if op == "/" else a ** int(b) if b.denominator == 1 and abs(b) <= 64 and (a or b > 0) else None
    return {"+": a + b, "-": a - b, "*": a * b, "neg": -a}[op]


class _Proof:  # as read from its file
    def __init__(self, given):
        self.formula, self.unknown, self.pieces = given["formula"], given["unknown"], given["pieces"]
        self.start, self.end = (float.fromhex(end) for end in given["interval"])
        self.known = {name: Fraction(float.fromhex(value)) for name, value in given["parameters"].items()}

    def _slope(self, lo, hi):
        names = {name: arb_series([arb(float(value))]) for name, value in self.known.items()}
        names |= {self.unknown: arb_series([arb(lo).union(arb(hi)), 1])}
        return _fold(self.formula, names, _series, lambda *e: arb_series([e[0].union(e[-1])]), self.known)

    def _sign(self, x):
        zero, value = _fraction(self.formula, self.known | {self.unknown: Fraction(x)}) == 0, self._slope(x, x)[0]
        return 0 if zero else int(value > 0) - int(value < 0) or None

    def _monotone(self, lo, hi, halvings=0):  # the sign of the slope, or 0
        slope, half = self._slope(lo, hi), 0.5 * lo + 0.5 * hi
        sign = int(slope[1] > 0) - int(slope[1] < 0) if slope[0].is_finite() else 0
        if sign or not halvings or not lo < half < hi:
            return sign
        first = self._monotone(lo, half, halvings - 1)
        return first if first and first == self._monotone(half, hi, halvings - 1) else 0

    def _no_root(self, lo, hi, _, halvings=50):
        names = {name: _hull(arb(float(v))) for name, v in self.known.items()} | {self.unknown: (arb(lo), arb(hi))}
        try:
            value = _fold(self.formula, names, _bounds, _hull, self.known)
        except ArithmeticError:
            return True
        sure = value[0] > 0 or value[1] < 0 or (self._monotone(lo, hi) and self._sign(lo) == self._sign(hi) in (-1, 1))
        half, go_on = 0.5 * lo + 0.5 * hi, halvings > 0 and lo < 0.5 * lo + 0.5 * hi < hi
        return sure or (go_on and all(self._no_root(*part, _, halvings - 1) for part in ((lo, half), (half, hi))))

    def _one_root(self, lo, hi, within):
        signs = [self._sign(end) for end in within]
        crosses = signs == [0, 0] if within[0] == within[1] else signs in ([-1, 1], [1, -1])
        inside = (lo < within[0] or lo == within[0] == self.start) and within[0] <= within[
            1
        ] <= hi  # no root is counted twice
        return crosses and inside and (lo == hi or self._monotone(lo, hi, 60))

    def verify(self):
        """The number of pieces of each kind; a wrong piece ends the program."""
        checks = {"one root": self._one_root, "no root": self._no_root, "undecided": lambda *_: True}
        at, counts = self.start, dict.fromkeys(checks, 0)
        for piece in self.pieces:
            (lo, hi), within = ([float.fromhex(e) for e in piece.get(k, piece["ends"])] for k in ("ends", "within"))
            if lo != at or hi < lo or not checks[piece["claim"]](lo, hi, within):
                sys.exit(f"REFUTED: {piece['claim']} between {lo!r} and {hi!r} (or a gap behind {at!r}).")
            at, counts[piece["claim"]] = hi, counts[piece["claim"]] + 1
        return f"confirmed, {counts}" if at == self.end else sys.exit(f"REFUTED: the pieces end at {at!r}.")


if __name__ == "__main__":
    print(_Proof(json.loads(open(sys.argv[1], encoding="utf-8").read())).verify())
