"""Commands on machines over SSH, and on this one: what an action stands on (V2, V5, M8)."""

import asyncio
import os

import asyncssh
import pytest

from vamt.collecting.standins import LOGIN, LOOPBACK, StandIns, code, hangs, outcomes, pinned, says
from volact.protocol.problems import Refused, Unreachable
from volact.vamt.collecting.collector import Asking
from volact.vamt.collecting.targets import LOCAL, Limits, Login, Target

pytestmark = pytest.mark.sockets
SHORT = Limits(whole=2.0)


def test_one_command_of_quoted_words_is_run_and_reads_what_it_is_given() -> None:
    words = ("status", "a b", "$(id)", "`id`", "'\"", "*", "; rm -rf /", "-x", "", "\n")
    read: list[bytes] = []

    async def answer(process: "asyncssh.SSHServerProcess[bytes]") -> None:
        read.append(await process.stdin.read())
        process.stdout.write(b"out")
        process.stderr.write(b"err")
        process.exit(7)

    async def run() -> None:
        async with StandIns() as machines, Asking({"": LOGIN}, Limits(), lambda: 0) as asking:
            target = await machines.add(answer)
            ran = await asking.run(target, words, b"a key\n")
            assert ran == (7, b"out", b"err", pinned())
            (sent,) = machines.taken["commands"]
            shell = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                f"volact() {{ printf '%s\\0' \"$@\"; }}; {sent}",
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await shell.communicate()
            assert tuple(out.decode().split("\0")[:-1]) == words

    asyncio.run(run())
    assert read == [b"a key\n"]


def test_this_machine_is_asked_like_the_others() -> None:
    (found,) = asyncio.run(outcomes([Target("here", (), transport=LOCAL)], limits=Limits()))
    assert found.report is not None
    assert found.report.name == os.uname().nodename.lower().partition(".")[0]
    assert found.report.platform == "linux"
    assert found.report.products == ()


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (("/nowhere/volact",), "client-missing"),
        (("/bin/sh", "-c", "exit 3", "sh"), "client-failed"),
        (("/bin/sh", "-c", "yes", "sh"), "answer-too-long"),
        (("/bin/sh", "-c", "sleep 60", "sh"), "timed-out"),
        (("/bin/sh", "-c", "kill -9 $$", "sh"), "client-failed"),
    ],
)
def test_what_this_machine_does_not_answer(command: tuple[str, ...], wanted: str) -> None:
    login = Login(command=command)
    (found,) = asyncio.run(outcomes([Target("here", (), transport=LOCAL)], {"": login}, SHORT))
    assert code(found) == wanted


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (("volact",), "slmgr /dli"),
        (("/opt/volact/bin/volact",), "/opt/volact/bin/slmgr /dli"),
        (("sudo", "-n", "/opt/bin/volact"), "sudo -n /opt/bin/slmgr /dli"),
        (("python3", "-m", "volact"), "python3 -m volact.slmgr /dli"),
        (("/opt/wrapper",), None),
        (("/opt/volact/wrapper",), None),
    ],
)
def test_slmgr_stands_beside_volact(command: tuple[str, ...], wanted: str | None) -> None:
    async def run() -> list[str]:
        login = LOGIN._replace(command=command)
        async with StandIns() as machines, Asking({"": login}, Limits(), lambda: 0) as asking:
            target = await machines.add(says(b"Name: x"))
            if wanted is None:
                with pytest.raises(Refused):
                    await asking.run(target, ["/dli"], program="slmgr")
            else:
                assert (await asking.run(target, ["/dli"], program="slmgr")).out == b"Name: x"
            return list(machines.taken["commands"])

    assert asyncio.run(run()) == ([wanted] if wanted else [])


def test_a_command_that_hangs_is_let_go() -> None:
    async def run() -> None:
        async with StandIns() as machines, Asking({"": LOGIN}, Limits(whole=0.5), lambda: 0) as asking:
            await asking.run(await machines.add(hangs), ["client", "activate"])

    with pytest.raises(Unreachable) as late:
        asyncio.run(run())
    assert late.value.refusal.code == "timed-out"


def test_this_machines_slmgr() -> None:
    async def run() -> bytes:
        async with Asking({}, Limits(), lambda: 0) as asking:
            return (await asking.run(Target("here", (), transport=LOCAL), ["--help"], program="slmgr")).out

    assert b"/dli" in asyncio.run(run())


def test_nothing_is_run_over_winrm() -> None:
    async def run() -> None:
        async with Asking({"": LOGIN}, Limits(), lambda: 0) as asking:
            await asking.run(Target("m", (LOOPBACK,), transport="winrm"), ["client", "activate"])

    with pytest.raises(Refused) as refused:
        asyncio.run(run())
    assert refused.value.refusal.code == "usage"
