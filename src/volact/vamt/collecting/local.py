"""This machine asked like the others, by a process of its own (V2)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

from volact.protocol.problems import Refusal, Unreachable
from volact.vamt.collecting import reading
from volact.vamt.collecting.targets import COMMAND, Ran

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volact.vamt.collecting.targets import Login


def own_words(login: Login) -> tuple[str, ...]:
    """What starts volact here: this very program, with nothing of the folder it is in, unless the login says another."""
    return (sys.executable, "-P", "-m", "volact") if login.command == COMMAND else login.command


async def run(words: Sequence[str], stdin: bytes = b"") -> Ran:
    """Run a program here; who stops waiting for it ends it.

    Raises:
        Unreachable: `client-missing` if there is no such program, `answer-too-long`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
    except OSError as error:
        raise Unreachable(Refusal("client-missing", f"{words[0]}: {error.strerror}.")) from None
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - all three are pipes
    try:
        with contextlib.suppress(ConnectionError):  # it need not read what it is given
            process.stdin.write(stdin)
            process.stdin.close()
        out, err = await reading.both(process.stdout, process.stderr)
        code = await process.wait()
        return Ran(code if code >= 0 else -1, out, err)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it started
        # What nobody read would keep the pipes open, and whoever waits for the end waits for them.
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio has no public word for it
        await process.wait()
