"""A PostgreSQL of the tests' own, as RIGS.md says: another user than root, a temp folder, no TCP."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("initdb", "pg_ctl", "pg_basebackup")


class Postgres:
    """A running server, on a socket in its own folder."""

    def __init__(self, folder: Path, run: Any, *, durable: bool) -> None:
        self.folder = folder
        self._durable = durable
        self._run = run
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        return f"postgresql://volact@/{database}?host={self.folder}"

    def new_database(self, template: str = "template1") -> str:
        """A new database, some 0.04 s."""
        name = f"db{next(self._numbers)}"
        self.execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return name

    def start(self) -> None:
        # -F: no test cuts this server's power, and its flushes would be most of the tests' time.
        options = (
            f"{'' if self._durable else '-F '}-k {self.folder} -c listen_addresses='' -c max_connections=100"
        )
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")

    def synchronous_standby(self) -> "Postgres":
        """A standby in a folder below this one's, which has to confirm every commit from now on."""
        folder = self.folder / "standby"
        self._run("mkdir", "-m", "700", str(folder))
        self._run(
            "pg_basebackup",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-h",
            str(self.folder),
            "-U",
            "volact",
            "-D",
            "standby/data",
        )

        def run(program: str, *arguments: str) -> None:
            self._run(
                program,
                *(word.replace("data", "standby/data") if word == "data" else word for word in arguments),
            )

        standby = Postgres(folder, run, durable=self._durable)
        standby.start()
        for statement in ("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"):
            self.execute(statement)
        return standby

    def execute(self, statement: str) -> None:
        """Execute a statement outside of any transaction."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), user="volact", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def promote(self) -> None:
        self._run("pg_ctl", "-D", "data", "-w", "promote")


def _program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@contextmanager
def running(*, durable: bool = False) -> Iterator[Postgres]:
    """Start a server, and stop it at the end; `durable` for who measures. Skips, or in CI fails, where PostgreSQL is not installed."""
    missing = [name for name in _PROGRAMS if _program(name) is None]
    if missing:
        reason = f"PostgreSQL's {' and '.join(missing)} are not installed (Debian: postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="vpg"))
    other: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = next(name for name in ("postgres", "nobody") if _has_user(name))
        shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
        other = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}

    def run(program: str, *arguments: str) -> None:
        with (folder / "out").open("ab") as out:
            done = subprocess.run(
                [_program(program) or program, *arguments],
                cwd=folder,
                env={"HOME": str(folder), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
                **other,
            )
        if done.returncode:
            raise RuntimeError((folder / "out").read_text() + _log(folder))

    server = Postgres(folder, run, durable=durable)
    try:
        run("initdb", "--no-sync", "-A", "trust", "-U", "volact", "-D", "data")
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _log(folder: Path) -> str:
    log = folder / "log"
    return log.read_text() if log.exists() else ""
