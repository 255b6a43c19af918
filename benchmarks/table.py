"""Write the README's table of goals from results/*.json: `python -m benchmarks.table`."""

import json
import re
from pathlib import Path

from benchmarks._harness import RESULTS

README = Path(__file__).parents[1] / "README.md"
MARKS = "<!-- results: made by `python -m benchmarks.table` -->", "<!-- end of results -->"


def rows() -> list[str]:
    """One Markdown row a goal, with what was measured."""
    lines = ["| benchmark | goal | wanted | measured | |", "|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8"))["goals"]:
            sign = "≥" if entry["at_least"] else "≤"
            mark = "met" if entry["met"] else "missed"
            name = f"[{path.stem}](benchmarks/{path.stem}.py)"
            lines.append(
                f"| {name} | {entry['goal']} | {sign} {entry['wanted']:.4g} | {entry['reached']:.4g} | {mark} |"
            )
    return lines


def main() -> None:
    """Replace what lies between the marks."""
    text = README.read_text(encoding="utf-8")
    body = "\n".join([MARKS[0], *rows(), MARKS[1]])
    README.write_text(
        re.sub(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", lambda _: body, text, flags=re.S), encoding="utf-8"
    )
    print(f"wrote {len(rows()) - 2} rows into {README.name}")


if __name__ == "__main__":
    main()
