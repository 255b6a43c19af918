"""A small part of the standing judge: no verb says ok and is wrong (`python -m benchmarks.truth` asks the whole)."""

import importlib
import importlib.util

import pytest

from benchmarks import _truth

WRITTEN = [verb for verb in _truth.VERBS if importlib.util.find_spec(f"benchmarks._truth.{verb}")]


@pytest.mark.parametrize("verb", WRITTEN)
def test_no_ok_is_false(verb):
    tallies = importlib.import_module(f"benchmarks._truth.{verb}").judge(60, 1)
    for own in (tally for tally in tallies if tally.solver.startswith("jaxkit")):
        assert own.false == 0, own.first
        assert own.solved > own.refused * 0.2  # a verb that refuses everything keeps its promise, and is of no use


def test_a_tally_counts_and_keeps_the_first_false():
    tally = _truth.Tally("root", "jaxkit")
    tally.add(ok=True, right=True)
    tally.add(ok=False, right=False)
    tally.add(ok=True, right=False, problem="first")
    tally.add(ok=True, right=False, problem="second")
    assert tally.row()["solved"] == 0.25
    assert (tally.false, tally.first) == (2, "first")
