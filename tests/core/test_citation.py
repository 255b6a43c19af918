"""What to cite: every topic has entries, every entry is used and well formed."""

import re

import pytest

import jaxkit as jk
from jaxkit.core.citation import TOPICS, references
from jaxkit.tools import cli


def test_every_subject_is_a_topic_and_every_entry_belongs_to_one():
    assert set(jk.SUBJECTS) <= set(TOPICS)
    used = {key for keys in TOPICS.values() for key in keys}
    assert used == set(references())


@pytest.mark.parametrize("key", references())
def test_entries_are_well_formed(key):
    entry = references()[key]
    assert entry.count("{") == entry.count("}")
    assert {"author", "title"} <= set(re.findall(r"(\w+) = \{", entry))
    assert key.startswith("su") or "year" in entry


def test_an_entry_is_printed_once(capsys):
    assert cli.main(["cite", "dopri5", "dopri8"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("@phdthesis{kidger2021") == 1
    assert "prince1981" in printed
    assert "dormand1980" in printed


def test_unknown_topics_are_refused():
    with pytest.raises(ValueError, match="Argument `topic` must be one of 'competition'"):
        jk.cite("astrology")
