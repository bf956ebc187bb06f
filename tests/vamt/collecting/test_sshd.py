"""Real sshd, and on the machines the real `volact client status --json` (V2, V10, T28, T29)."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from client.publisher import PRODUCT, Publisher
from sshd import Sshd
from vamt.collecting.standins import code, outcomes
from volact.vamt.collecting import preparing
from volact.vamt.collecting.collector import Asking
from volact.vamt.collecting.targets import Limits, Login

pytestmark = pytest.mark.sockets
COMMAND = (sys.executable, "-m", "volact")
UUIDS = ("4c4c4544-0043-4e10-8057-b7c04f573231", "4c4c4544-0043-4e10-8057-b7c04f573232")
CANARY = "canary-of-a-secret-passphrase"


def facts(folder: Path, number: int) -> Path:
    """A laboratory machine's facts."""
    file = folder / f"facts{number}.json"
    file.write_text(
        json.dumps({"uuid": UUIDS[number], "name": f"web{number}.corp.example", "hypervisor": "kvm"})
    )
    return file


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Sshd]]:
    """Two machines of a laboratory, each with an identity of its own and a product installed."""
    folder = tmp_path_factory.mktemp("sshd")
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Sshd(
                    folder / f"m{number}",
                    VOLACT_HOME=str(_home(folder / f"home{number}")),
                    VOLACT_MACHINE_FACTS=str(facts(folder, number)),
                )
            )
            for number in range(2)
        ]


def _home(folder: Path) -> Path:
    """A client's home with a laboratory's product in it."""
    folder.mkdir()
    publisher = Publisher(iat=int(time.time()) - 100)
    file = folder / "product"
    file.write_bytes(publisher.product_file())
    words = [*COMMAND, "client", "install", str(file), f"--root={publisher.pub}"]
    environ = {**os.environ, "VOLACT_HOME": str(folder)}
    subprocess.run(words, env=environ, check=True, capture_output=True, timeout=60)
    return folder


def login(machine: Sshd) -> Login:
    return machine.login._replace(command=COMMAND)


def test_machines_say_what_they_are_and_have(machines: list[Sshd]) -> None:
    logins = {str(number): login(machine) for number, machine in enumerate(machines)}
    targets = [machine.target._replace(login=str(number)) for number, machine in enumerate(machines)]
    found = {one.target.mid: one for one in asyncio.run(outcomes(targets, logins, Limits()))}
    reports = [found[f"m{number}"].report for number in range(2)]
    for number, report in enumerate(reports):
        assert report is not None, found
        assert (report.name, report.domain) == (f"web{number}", "corp.example")
        assert (report.platform, report.virtual, report.hypervisor) == ("linux", True, "kvm")
        assert [(one.product, one.state, one.channel) for one in report.products] == [(PRODUCT, 2, "kms")]
    assert len({report.identity for report in reports if report}) == 2


def test_a_machine_set_up_anew_is_skipped_and_flagged(tmp_path: Path) -> None:
    with Sshd(tmp_path / "m") as machine:
        before = machine.target
        machine.new_host_key()
        (found,) = asyncio.run(outcomes([before._replace(port=machine.port)], {"": login(machine)}, Limits()))
        assert code(found) == "host-key-changed"
        assert found.refusal is not None
        assert dict(found.refusal.extra)["host_key"] == machine.host_key
        assert "Accepted" not in machine.log()


def test_the_script_of_prepare_lets_a_key_read_the_licences_and_nothing_else(tmp_path: Path) -> None:
    """V10: the script is run as it is printed, below a folder; sshd then uses what it wrote."""
    volact = tmp_path / "bin" / "volact"
    volact.parent.mkdir()
    volact.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m volact "$@"\n')
    volact.chmod(0o755)
    script = tmp_path / "prepare-linux.sh"
    script.write_text(preparing.script("linux"))
    with Sshd(tmp_path / "m", VOLACT_HOME=str(tmp_path / "home")) as machine:
        key = (machine.folder / "user_key.pub").read_text().strip()
        root = tmp_path / "root"
        for _ in range(2):  # it may be run again
            done = subprocess.run(
                ["sh", str(script), key, "127.0.0.0/8"],
                env={"PATH": "/usr/bin:/bin", "DESTDIR": str(root), "VOLACT": str(volact)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        (line,) = (root / "var/lib/volact-vamt/.ssh/authorized_keys").read_text().splitlines()
        gate = root / "usr/local/libexec/volact-vamt"
        assert line == f'restrict,command="/usr/local/libexec/volact-vamt",from="127.0.0.0/8" {key}'
        gate.write_text(gate.read_text().replace("sudo -n ", ""))  # the test's machine has no such rule
        machine.let_in(line.replace("/usr/local/libexec/volact-vamt", str(gate)))
        (found,) = asyncio.run(outcomes([machine.target], {"": machine.login}, Limits()))
        assert found.report is not None, (found, machine.log())
        assert found.report.platform == "linux"

        async def tried(*words: str) -> tuple[int, bytes]:
            async with Asking({"": machine.login}, Limits(), lambda: 0) as asking:
                ran = await asking.run(machine.target, words)
                return ran.exit, ran.out

        for words in (("client", "generalize"), ("client", "status", "--json", ";", "id"), ("--version",)):
            assert asyncio.run(tried(*words)) == (1, b"")
        assert asyncio.run(tried("client", "status", "--json"))[0] == 0


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        ([], {}),
        (["no key"], {}),
        (["ssh-ed25519 AAAA\nssh-ed25519 BBBB"], {}),
        (["ssh-ed25519 AAAA", "all; rm -rf /"], {}),
        (["ssh-ed25519 AAAA", "192.0.2.7", "more"], {}),
        (["ssh-ed25519 AAAA"], {"VOLACT": "volact"}),
        (["ssh-ed25519 AAAA"], {"VOLACT": "/opt/$(id)/volact"}),
    ],
)
def test_the_script_refuses_what_it_cannot_use_and_writes_nothing(
    tmp_path: Path, words: list[str], environ: dict[str, str]
) -> None:
    whole = {"PATH": "/usr/bin:/bin", "DESTDIR": str(tmp_path), "VOLACT": "/opt/volact", **environ}
    script = preparing.script("linux")
    done = subprocess.run(
        ["sh", "-s", "--", *words],
        input=script,
        env=whole,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("prepare-linux: ")
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_in_no_argument_environment_or_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """T28: while machines are asked, no process shows the key, its passphrase or a password."""
    seen: list[bytes] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.append((folder / name).read_bytes())
                    except OSError:
                        continue

    with Sshd(tmp_path / "m", VOLACT_HOME=str(tmp_path / "home")) as machine:
        secret = Login(
            machine.login.user,
            key=machine.login.key,
            password=CANARY + "-password",
            command=COMMAND,
        )
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            (found,) = asyncio.run(outcomes([machine.target], {"": secret}, Limits()))
        finally:
            stop.set()
            watcher.join()
        assert found.report is not None
        body = "".join(machine.login.key.splitlines()[1:-1]).encode()
        assert not [one for one in seen if (CANARY + "-password").encode() in one or body[60:120] in one]
        assert any(b"client\0status" in one for one in seen)  # it did look while they were asked
        assert CANARY + "-password" not in machine.log()
    out, err = capfd.readouterr()
    assert "canary" not in out + err + repr(found) + repr(secret)
