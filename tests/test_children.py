"""Programs that are started load nothing from the folder that they are started in: it may be another's (T26)."""

import asyncio
import socket
from pathlib import Path

import pytest

from programs import LOOPBACK
from volact.children import Volact
from volact.protocol.problems import BrokenData, Refused
from volact.vamt.collecting import local
from volact.vamt.collecting.targets import COMMAND, Login

MODULES = ("volact", "msgspec", "structlog", "json")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which modules of the names of ours lie, where who runs commands stands; what they leave behind."""
    folder = tmp_path / "trap"
    folder.mkdir()
    loaded = tmp_path / "loaded"
    for name in MODULES:
        (folder / f"{name}.py").write_text(
            f"open({str(loaded)!r}, 'a').write({name!r})\nraise SystemExit(7)\n"
        )
    monkeypatch.chdir(folder)
    return loaded


@pytest.mark.parametrize(("program", "words"), [("volact", ("kmshost", "status")), ("slmgr", ("/nothing",))])
def test_a_command(trap: Path, tmp_path: Path, program: str, words: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        Volact(tmp_path / "home")(*words, program=program)
    assert refused.value.refusal.code != "internal", "it said something of its own"
    assert not trap.exists()


@pytest.mark.sockets
def test_a_service(trap: Path, tmp_path: Path) -> None:
    """It ends at once, for nothing is set up; it would listen else."""
    with socket.socket() as nobody:
        nobody.bind((LOOPBACK, 0))
        port = nobody.getsockname()[1]
    log = tmp_path / "log"
    with pytest.raises(BrokenData):
        Volact(tmp_path / "home").serve("kmshost", "serve", log=log, address=(LOOPBACK, port))
    assert "not-set-up" in log.read_text()
    assert not trap.exists()


def test_this_machine_that_vamt_asks(trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLACT_HOME", str(tmp_path / "home"))
    words = local.own_words(Login(command=COMMAND))
    ran = asyncio.run(local.run((*words, "client", "status", "--json")))
    assert ran.exit != 7
    assert b"{" in ran.out
    assert not trap.exists()
