"""Outcomes: one integer per lane inside a jitted program, one clear sentence outside it."""

import enum
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


class Status(enum.IntEnum):
    """Outcome of a solve: an integer, so that it can be traced and vmapped, with the sentence that a user reads.

    Example:
        >>> from jaxkit import Status
        >>> Status(1).name, Status.ok == 0
        ('max_steps', True)
    """

    sentence: str

    def __new__(cls, code: int, sentence: str) -> Self:
        """Make the member: its value is `code` alone."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    ok = 0, "solved."
    max_steps = (
        1,
        "`max_steps` was reached; raise it, loosen the tolerance, or start nearer.",
    )
    not_finite = 2, "a value is not finite: the motion blows up or leaves the domain; start nearer, or shorten the run."
    singular = (
        3,
        "the Jacobian is singular (the root may be double, or the parameters not identifiable), or GMRES did not "
        "converge; with jacobian='krylov', try 'sparse' or 'dense'.",
    )
    left_bracket = 4, "an iterate left the bracket; give a bracket whose ends have values of opposite sign."
    no_sign_change = 5, "`fn` has the same sign at both ends of the bracket; choose a bracket that encloses a root."
    cycle = 6, "the iteration runs in a cycle; start elsewhere, or use a damped or bracketing method."
    step_too_small = (
        7,
        "the step size vanished; the problem may be stiff (use an implicit method) or singular.",
    )
    no_progress = (
        8,
        "no step lowers the residual further, and it is not zero; this may be a minimum, not a root.",
    )
    not_applicable = (
        9,
        "the question has no answer for these parameters (there is no such point, event or orbit, or the times "
        "are out of order).",
    )
    not_continuous = 10, "the sign changes by a jump or at a pole, not through zero; choose a bracket without it."
    stiff = (
        11,
        "`max_steps` was reached because the problem is stiff: an explicit method's steps are as short as its "
        'stability demands; use an implicit one, `jaxkit.solve(..., method="rodas5p")`.',
    )
    unresolved = 12, "the solution is not smooth on its nodes; take more nodes, or another first guess."
    stuck = 13, "no proposal was accepted; take a shorter step, or let the warm-up find one (`target_accept=0.6`)."
    start_not_finite = 14, "the start is not finite: NaN or infinity was handed over; mend `x0`."
    velocity_not_finite = (
        15,
        "the field is not finite where the motion has come to; look at its parameters, and at the domain of its roots, "
        "logarithms and quotients.",
    )
    branch_lost = (
        16,
        "no next point of the branch is found, however short the step: it ends there (a corner, a pole, an edge of the "
        "domain) or the units are wrong; give the true `scale` and `parameter_scale`, or a shorter `step`.",
    )
    not_mixed = (
        17,
        "the chains have not mixed (R-hat above 1.1): they sit in different places, or still leave their start; take "
        "more steps, a longer warm-up, or `Annealed` between modes.",
    )
    at_boundary = (
        18,
        "the best fit lies at the edge of the admissible parameters: those that would leave it are held there, without "
        "an error of their own.",
    )
    divergent = (
        19,
        "more than 1% of the proposals diverge, and a chain rests for long: the chains hardly enter, and hardly leave, "
        "where the density is narrow; take shorter steps (a larger `target_accept`), or other coordinates.",
    )
    out_of_batches = (
        20,
        "the batches came to an end before the steps did; ask for fewer steps, or hand over batches that can be "
        "iterated again.",
    )
    too_many_events = (
        21,
        "more events were met than `Event(repeats=...)` allows, and the motion ends at the first that was too many; "
        "raise `repeats`, or end the run before the time at which they pile up.",
    )


class SolverError(RuntimeError):
    """A solve failed; `solution` holds what the solve had reached, so that nothing is lost."""

    def __init__(self, message: str, solution: Any):
        super().__init__(message)
        self.solution = solution


class Outcome:
    """The methods of every result with a `status`. Subclasses are `struct`s with a field `status` (any batch shape)."""

    verb: ClassVar[str] = "solve"
    status: Int[Array, "..."]

    @property
    def ok(self) -> Bool[Array, "..."]:
        """Whether each lane succeeded."""
        return self.status == int(Status.ok)

    def checked(self) -> Self:
        """Return `self`, or raise `SolverError` with one sentence that counts and locates the failures; host only."""
        status = np.asarray(self.status)
        bad = np.flatnonzero(np.atleast_1d(status) != Status.ok)
        if bad.size:
            first = Status(int(np.atleast_1d(status).ravel()[bad[0]]))
            where = np.unravel_index(bad[0], status.shape) if status.ndim else ()
            index = int(where[0]) if len(where) == 1 else tuple(map(int, where))
            counted = f" ({bad.size} of {status.size} lanes failed, the first at index {index})" if status.ndim else ""
            raise SolverError(f"{self.verb}: {first.name}{counted}: {first.sentence}", self)
        return self


def worst(*statuses: Int[Array, "..."]) -> Int[Array, "..."]:
    """The first status that is not ok, lane by lane."""
    result = jnp.asarray(statuses[0])
    for status in statuses[1:]:
        result = jnp.where(result == int(Status.ok), status, result)
    return result
