"""Commands as processes of their own, each in the namespace, home and folder that it is given, without a second of imports.

One process does the imports; each command is a fork of it, which enters its namespace before it does anything.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from inprocess import Done
from namespaces import Namespace

_PROGRAM = """
import ctypes, json, os, sys, tempfile
import asyncssh
from volact import cli, slmgr
from volact.kmshost import cli as _host
from volact.vamt import cli as _vamt
from volact.vamt import collectcommands, exportcommands, proxycommands

libc = ctypes.CDLL(None, use_errno=True)

def child(ask, files):
    if ask["namespace"]:
        with open("/run/netns/" + ask["namespace"]) as network:
            if libc.setns(network.fileno(), 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
    for file, number in zip(files, range(3)):
        os.dup2(file.fileno(), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    os.chdir(ask["folder"])
    os.environ.clear()
    os.environ.update(ask["environ"])
    program, *words = ask["words"]
    code = {"volact": cli.main, "slmgr": slmgr.main}[program](words)
    sys.stdout.flush()
    sys.stderr.flush()
    return code

for line in sys.stdin:
    ask = json.loads(line)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(ask["stdin"].encode())
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = child(ask, (given, out, err))
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    print(json.dumps([code, *said]), flush=True)
"""


class Forking:
    """Runs commands, one after the other; use as a context."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(
        self,
        words: Sequence[str],
        within: Namespace | None,
        environ: Mapping[str, str],
        folder: Path,
        stdin: str = "",
    ) -> Done:
        """Run ``volact ...`` or ``slmgr ...`` there."""
        ask = {
            "words": list(words),
            "namespace": within.name if within else "",
            "environ": dict(environ),
            "folder": os.fspath(folder),
            "stdin": stdin,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        return Done(*json.loads(self._process.stdout.readline()))
