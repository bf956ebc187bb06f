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


def test_quickstart_activates_three_machines_and_ends_by_itself(tmp_path: Path) -> None:
    """Three of a MAK of 100 are activated; the last line says what remains; no process is left (M1, M3)."""
    done = quickstart(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "remaining: 97 of 100"
    assert done.stderr.count("Licensed") == 3
    assert "verified" in done.stderr
    assert processes_under(tmp_path) == []

    again = quickstart(tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == "remaining: 97 of 100", (
        "the same machines are not counted again (M2)"
    )

    fresh = quickstart(tmp_path, "--fresh", "--json")
    assert fresh.returncode == 0, fresh.stderr
    assert json.loads(fresh.stdout)["remaining"] == 97


def test_quickstart_says_plainly_that_its_home_cannot_be_written(tmp_path: Path) -> None:
    """A home that is no folder is a sentence and exit code 4, not a traceback."""
    file = tmp_path / "file"
    file.write_text("in the way")
    done = quickstart(file)
    assert done.returncode == 4
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
