"""Hold the coverage promises: every branch of the pure modules, and a floor for the rest.

Reads slipcover's JSON report; the list of pure modules and the floor are in pyproject.toml, `tool.volact`.
"""

import fnmatch
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def shortfalls(report: dict[str, Any], pure: list[str], floor: float) -> list[str]:
    """Name what is below its promise, one sentence each."""
    found = []
    covered = total = 0
    for path, measured in sorted(report["files"].items()):
        inside = path.replace("\\", "/").partition("src/volact/")[2]
        summary = measured["summary"]
        if any(fnmatch.fnmatch(inside, pattern) for pattern in pure):
            if summary["missing_lines"] or summary["missing_branches"]:
                branches = [f"{a}->{b}" for a, b in measured["missing_branches"]]
                found.append(
                    f"{path}: pure, not covered: lines {measured['missing_lines']}, branches {branches}"
                )
        else:
            covered += summary["covered_lines"] + summary["covered_branches"]
            total += summary["missing_lines"] + summary["missing_branches"]
    total += covered
    per_cent = 100 * covered / total if total else 100.0
    print(f"coverage outside the pure modules: {per_cent:.1f} % (floor {floor:g} %)")
    if per_cent < floor:
        found.append(f"coverage outside the pure modules is {per_cent:.1f} %, below the floor of {floor:g} %")
    return found


def main() -> int:
    """Check the report named on the command line."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["volact"]
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = shortfalls(report, settings["pure"], settings["coverage-floor"])
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
