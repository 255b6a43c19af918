"""Write what was measured into README.md (one row a benchmark) and benchmarks/README.md (every goal).

python -m benchmarks.table
"""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks._harness import RESULTS

HERE = Path(__file__).parent
MARKS = "<!-- results: made by `python -m benchmarks.table` -->", "<!-- end of results -->"
INTRODUCTION = """# Benchmarks

`python -m benchmarks.<name>` measures one claim: CPU time of all threads, the minimum of interleaved repeats, compile
time apart, the peers in the same run; `--quick` only shows that it runs. The numbers and the environment they were
measured in lie in [results](results); this page and the README's table are made from them by
`python -m benchmarks.table`. Missed goals stay in.
"""


def results() -> dict[str, dict[str, Any]]:
    """Benchmark -> what it wrote."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def script(name: str) -> str:
    """The benchmark behind a result: some write one result a kind, `score_images` for example."""
    return max((p.stem for p in HERE.glob("[a-z]*.py") if name.startswith(p.stem)), key=len)


def summary(found: dict[str, dict[str, Any]]) -> list[str]:
    """A Markdown table with one row a benchmark: what it claims first, the goals met, the missed ones by name."""
    lines = ["| benchmark | claim | goals met | missed |", "|---|---|---|---|"]
    for name, result in found.items():
        goals = result["goals"]
        missed = "; ".join(f"{g['goal']}: {g['reached']:.3g}, wanted {_wanted(g)}" for g in goals if not g["met"])
        met = sum(g["met"] for g in goals)
        claim = _first_sentence(_claim(result))
        link = f"[{name}](benchmarks/{script(name)}.py)"
        lines.append(f"| {link} | {claim} | {met} of {len(goals)} | {missed or 'none'} |")
    return lines


def page(found: dict[str, dict[str, Any]]) -> str:
    """Every goal of every benchmark, with the machine and the day."""
    parts = [INTRODUCTION]
    for name, result in found.items():
        where = result["environment"]
        parts += [
            f"## [{name}]({script(name)}.py)\n\n{_claim(result)}\n",
            f"{where['date']}, {where['processor']}, {where['cores']} cores, jaxlib {where['versions']['jaxlib']}, "
            f"load average {where['load_average'][0]}.\n",
            "| goal | wanted | measured | |\n|---|---|---|---|",
            *(
                f"| {g['goal']} | {_wanted(g)} | {g['reached']:.4g} | {'met' if g['met'] else 'missed'} |"
                for g in result["goals"]
            ),
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


def _claim(result: dict[str, Any]) -> str:
    text = re.sub(r"^(.*?\bCLAIM:|Claim:)\s*", "", " ".join(result["claim"].split()))
    return text[:1].upper() + text[1:]


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0]


def _wanted(goal: dict[str, Any]) -> str:
    return f"{'≥' if goal['at_least'] else '≤'} {goal['wanted']:.4g}"


def main() -> None:
    """Write both files."""
    found = results()
    readme = HERE.parent / "README.md"
    body = "\n".join([MARKS[0], *summary(found), MARKS[1]])
    pattern = f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}"
    readme.write_text(re.sub(pattern, lambda _: body, readme.read_text(encoding="utf-8"), flags=re.S), encoding="utf-8")
    (HERE / "README.md").write_text(page(found), encoding="utf-8")
    goals = [goal for result in found.values() for goal in result["goals"]]
    met = sum(goal["met"] for goal in goals)
    print(f"{met} of {len(goals)} goals met; wrote README.md and benchmarks/README.md")


if __name__ == "__main__":
    main()
