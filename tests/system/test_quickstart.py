"""The quick start, as a person runs it: one command, real processes, files and HTTPS."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sockets


def quickstart(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``volact quickstart`` in `home`, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "volact", "quickstart", *words],
        env={**os.environ, "VOLACT_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def processes_under(home: Path) -> list[str]:
    """Command lines of processes whose home is inside `home`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str(home).encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text())
            except OSError:
                continue
    return found


LAST = ["count: 27 (required 25)", "remaining: 97 of 100"]


def test_quickstart_activates_three_and_twenty_seven_machines_and_ends_by_itself(tmp_path: Path) -> None:
    """The first 24 callers are refused and succeed at their next try (K2); no process is left (M1, M3)."""
    done = quickstart(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == LAST
    assert done.stderr.count("Licensed") == 3
    assert "24 were refused: count-insufficient, count 1 to 24, required 25" in done.stderr
    assert done.stderr.count("verified") == 4, "each of the two documents says so, and its step"
    lines = done.stderr.splitlines()
    for line in (
        "   9 of 27 have the product installed",
        "   18 of 27 have called",
        "   18 of 24 have called",
    ):
        assert line in lines, "a long step says how far it is"
    assert processes_under(tmp_path) == []


@pytest.mark.slow
def test_a_second_quickstart_goes_on_with_what_the_first_left(tmp_path: Path) -> None:
    assert quickstart(tmp_path).returncode == 0
    again = quickstart(tmp_path, "--json")
    assert again.returncode == 0, again.stderr
    said = json.loads(again.stdout)
    assert (said["count"], said["required"]) == (27, 25), (
        "one CMID is one machine however often it calls (K3)"
    )
    assert (said["remaining"], said["bought"]) == (97, 100), "the same machines are not counted again (M2)"


def test_quickstart_says_plainly_that_its_home_cannot_be_written(tmp_path: Path) -> None:
    """A home that is no folder is a sentence and exit code 4, not a traceback."""
    file = tmp_path / "file"
    file.write_text("in the way")
    done = quickstart(file)
    assert done.returncode == 4
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
