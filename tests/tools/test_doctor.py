"""The doctor: kernels that agree, facts about JAX that hold, and what it says where they do not."""

import jax
import pytest

from jaxkit.tools import cli, doctor


@pytest.fixture(autouse=True)
def _double(monkeypatch):
    monkeypatch.setattr(cli, "_prepare", lambda *a, **k: None)  # the suite has its own precision and flags


@pytest.mark.slow  # `jaxkit doctor` runs it too, in CI
def test_canary_sings():
    differences = doctor.canary()
    assert len(differences) >= 40
    assert max(differences.values()) < 1e-10, differences


@pytest.mark.parametrize("sentence", doctor.FACTS)
def test_a_fact_holds(sentence):
    assert doctor.FACTS[sentence]()


def test_diagnosis_names_the_backend():
    assert "cpu" in doctor.diagnose()[0]


def test_fails_when_a_kernel_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "canary", lambda: {"fine": 1e-16, "matmul": 0.1})
    monkeypatch.setattr(doctor, "false_facts", dict)
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "WRONG matmul: jitted and eager results differ by 1.0e-01" in out
    assert "backend cpu" in out
    assert "1 of 2 kernels agree" in out
    assert f"{len(doctor.FACTS)} of {len(doctor.FACTS)} facts hold" in out


def test_fails_when_a_fact_is_false(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "canary", lambda: {"fine": 1e-16})
    monkeypatch.setattr(doctor, "FACTS", {"two": lambda: True, "three": lambda: False, "gone": lambda: jax.nothing})
    assert cli.main(["doctor"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "WRONG three: is not so" in out
    assert "WRONG gone: AttributeError: " in out
    assert "1 of 3 facts hold" in out
    assert "Do not trust this JAX" in out
