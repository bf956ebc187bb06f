"""Our commands in the test's own process, through the entry points of the programs: where a new process shows no more.

A process of its own takes a second of imports for each command. What a command finds is the same here: its words, its
environment, its standard input, output and error. Only one may run at a time.
"""

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from volact import cli, slmgr

_MAINS = {"volact": cli.main, "slmgr": slmgr.main}
_MODULES = {"volact": "volact", "slmgr": "volact.slmgr"}
_TIMEOUT = 60
_ALONE = threading.Lock()


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


def run(program: str, *words: str, environ: Mapping[str, str], stdin: str = "") -> Done:
    """Run a command with this environment and nothing else of it."""
    out, err = io.StringIO(), io.StringIO()
    with _ALONE:
        before = dict(os.environ), sys.stdin
        try:
            _set(environ)
            sys.stdin = io.StringIO(stdin)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = _MAINS[program](list(words))
        finally:
            structlog.reset_defaults()
            sys.stdin = before[1]
            _set(before[0])
    return Done(code, out.getvalue(), err.getvalue())


def process(program: str, *words: str, environ: Mapping[str, str], stdin: str = "") -> Done:
    """The same in a process of its own, for what needs one."""
    done = subprocess.run(
        [sys.executable, "-m", _MODULES[program], *words],
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _set(environ: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)
