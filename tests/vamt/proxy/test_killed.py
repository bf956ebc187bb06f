"""F31, F32: a real `volact vamt import` or `export` is killed, before any of its SQL statements; then it is run again."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest

from vamt.proxy.trips import Trip
from vamt.site import ADMINISTRATOR
from volact.vamt import cil, setup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vamt.proxy.trips import Side

KILLED = -signal.SIGKILL
# The imports are done once; each command is a fork of that process, whose batches are of two rows.
PROGRAM = """
import json, os, signal, sys
from sqlalchemy import Engine, event
from volact import cli
from volact.vamt import cli as _vamt, exportcommands, intake, proxycommands

def child(home, words, at):
    os.environ["VOLACT_HOME"] = home
    intake.BATCH = 2
    done = [0]

    @event.listens_for(Engine, "before_cursor_execute")
    def count(_connection, _cursor, statement, *_):
        if done[0] == at or (isinstance(at, str) and at in statement):
            os.kill(os.getpid(), signal.SIGKILL)
        done[0] += 1

    said = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    code = cli.main(["vamt", *words, "--json"])
    os.write(said, f"{done[0]} ".encode())
    os._exit(code)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            child(*json.loads(line))
        finally:
            os._exit(99)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
STATE = (
    "SELECT lid, pub, direction, mode, seq, writer, ref, digest, rows FROM computer_list ORDER BY lid",
    """SELECT lid, row, mid, prd, op, jti, key, request, state, code, answer
    FROM list_row JOIN computer_list ON list = computer_list.id ORDER BY lid, row""",
    "SELECT pub, prd, key, cmid, act, fp, bundle, mid, granted FROM confirmation ORDER BY act, cmid",
    "SELECT fp, name, trusted FROM writer",
    "SELECT name, domain, found_by, products FROM machine ORDER BY name",
    "SELECT name, domain, count(*) FROM alias GROUP BY name, domain",
)
"""What a list leaves behind, but times and the ids that are made at random."""


class Commands:
    """Runs commands of VAMT and kills them."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, home: Path, words: tuple[str, ...], at: int | str = -1) -> tuple[int, int]:
        """Run a command, and kill it before its statement `at`, a number or what stands in it.

        Its exit code, and how many statements it had.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([str(home), words, at]) + "\n")
        self._process.stdin.flush()
        *count, code = self._process.stdout.readline().split()
        return int(code), int(count[0]) if count else 0


class Case(NamedTuple):
    """A home as it is before the command, the command, and the file that it is about."""

    home: Path
    words: tuple[str, ...]
    file: Path


def home_of(side: Side, folder: Path) -> Path:
    """A VOLACT_HOME with the store of one side."""
    setup.initialise("VAMT", {"VOLACT_HOME": str(folder)})
    (folder / "vamt" / "vamt.db").unlink()
    with closing(sqlite3.connect(side.site.store.engine.url.database or "")) as whole:
        whole.execute("VACUUM INTO ?", [str(folder / "vamt" / "vamt.db")])
    return folder


def state(home: Path) -> list[list[Any]]:
    with closing(sqlite3.connect(home / "vamt" / "vamt.db")) as store:
        return [store.execute(query).fetchall() for query in STATE]


@pytest.fixture
def case(trip: Trip, tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    """Seven rows, of which the key has enough for five."""
    trip.estate(7)
    trip.outside.proxy.trust(ADMINISTRATOR, trip.inside.site.signer.kid)
    done = trip.export(trip.authority.key(activations=5))
    file = tmp_path / "list.cil"
    file.write_bytes(trip.inside.file)
    if request.param == "questions":
        return Case(home_of(trip.outside, tmp_path / "home"), ("import", str(file)), file)
    trip.outside.take(trip.inside.file)
    answers = trip.answer(done.written.lid)
    if request.param == "answers":
        file.write_bytes(answers)
        return Case(home_of(trip.inside, tmp_path / "home"), ("import", str(file)), file)
    words = ("export", str(file), "--answers", "newest")
    return Case(home_of(trip.outside, tmp_path / "home"), words, file)


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as running:
        yield running


def killed_and_run_again(commands: Commands, case: Case, folder: Path, times: int) -> None:
    """Kill it at so many places, evenly spread; each time it is run again, and all is as if nothing had happened."""
    before = case.file.read_bytes()

    def fresh(name: str) -> Path:
        case.file.write_bytes(before)
        return shutil.copytree(case.home, folder / name)

    whole = fresh("whole")
    code, statements = commands.run(whole, case.words)
    assert (code, statements > times) == (0, True)
    places: list[int | str] = [statements * number // (times + 1) for number in range(1, times + 1)]
    if case.words[0] == "export":
        places.append("UPDATE computer_list SET digest")  # the file is written, and not in its place
    for number, place in enumerate(places):
        home = fresh(f"home{number}")
        assert commands.run(home, case.words, place) == (KILLED, 0)
        assert is_whole(case.file, before)
        assert commands.run(home, case.words)[0] == 0
        assert is_whole(case.file, before)
        if case.words[0] == "export":
            assert case.file.read_bytes() != before
        else:
            assert state(home) == state(whole)


def is_whole(file: Path, before: bytes) -> bool:
    """Whether a file is as it was, or a whole list."""
    data = file.read_bytes()
    return data == before or cil.survey(data.splitlines(keepends=True)).damage == ""


KINDS = pytest.mark.parametrize("case", ["questions", "answers", "export"], indirect=True)


@KINDS
def test_it_is_killed_in_the_middle(commands: Commands, case: Case, tmp_path: Path) -> None:
    killed_and_run_again(commands, case, tmp_path, 1)


@pytest.mark.slow
@KINDS
def test_it_is_killed_20_times(commands: Commands, case: Case, tmp_path: Path) -> None:
    killed_and_run_again(commands, case, tmp_path, 20)
