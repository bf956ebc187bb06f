"""T28, M8: how secrets are typed and read: not shown, twice where nobody could see a slip, from nobody else's file."""

import contextlib
import os
import shutil
import stat
from pathlib import Path

import pytest

import inprocess
from terminal import Terminal
from vamt.collecting.standins import PRIVATE
from vamt.place import Place
from volact.files import is_exposed
from volact.protocol.problems import Refused
from volact.vamt import sealing

OLD, NEW, PASSWORD = "an old passphrase", "a newer passphrase", "planted-canary"


class Home(Place):
    """A home whose VAMT may have a seal."""

    def heard(self, done: inprocess.Done) -> None:
        assert PASSWORD not in done.out + done.err

    def typed(self, *words: str) -> Terminal:
        return Terminal("vamt", *words, environ=self.environ)

    def opens(self, passphrase: str) -> bool:
        with contextlib.suppress(Refused):
            sealing.unlock(self.folder / "home" / "vamt", lambda: passphrase)
            return True
        return False


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home with a new VAMT, and one with a seal and a login under it; each made once."""
    new, sealed = Home(tmp_path_factory.mktemp("new")), Home(tmp_path_factory.mktemp("sealed"))
    new.run("init")
    shutil.copytree(new.folder / "home", sealed.folder / "home")
    old = sealed.file("old", OLD)
    sealed.run("seal", "--passphrase", old)
    login = ("login", "set", "--user", "u", "--password", sealed.file("password", PASSWORD))
    sealed.run(*login, "--passphrase", old)
    return new.folder / "home", sealed.folder / "home"


@pytest.fixture
def place(tmp_path: Path, templates: tuple[Path, Path]) -> Home:
    shutil.copytree(templates[0], tmp_path / "home")
    return Home(tmp_path)


@pytest.fixture
def sealed(tmp_path: Path, templates: tuple[Path, Path]) -> Home:
    shutil.copytree(templates[1], tmp_path / "home")
    made = Home(tmp_path)
    made.file("old", OLD)
    return made


# --- typed on a terminal (M7, M8) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--passphrase", "-")], ids=["asked", "-"])
def test_a_new_passphrase_is_typed_twice_and_not_shown(place: Home, words: tuple[str, ...]) -> None:
    with place.typed("seal", *words) as terminal:
        terminal.answer("New passphrase", NEW)
        terminal.answer("again", NEW)
        assert terminal.end() == 0
        assert NEW not in terminal.shown
    assert place.opens(NEW)


def test_a_slip_makes_no_seal(place: Home) -> None:
    with place.typed("seal") as terminal:
        terminal.answer("New passphrase", NEW)
        terminal.answer("again", NEW + "x")
        assert terminal.end() == 2
        assert "differ" in terminal.shown
        assert NEW not in terminal.shown
    assert not sealing.is_set_up(place.folder / "home" / "vamt")


def test_what_is_read_from_a_terminal_is_not_shown(sealed: Home) -> None:
    sealed.run("login", "remove")
    with sealed.typed("login", "set", "--user", "u", "--password", "-") as terminal:
        terminal.answer("--password", PASSWORD)
        terminal.answer("Passphrase of VAMT's seal", OLD)
        assert terminal.end() == 0
        assert PASSWORD not in terminal.shown
        assert OLD not in terminal.shown
    assert sealed.run("login", "show")[0]["sealed"]


# --- another passphrase (M7) ----------------------------------------------------------------------------------------


def test_another_passphrase_takes_the_place_of_the_old_one(sealed: Home) -> None:
    words = ("--passphrase", sealed.file("old", OLD), "--new-passphrase", sealed.file("new", NEW))
    assert sealed.run("seal", "--change", *words) == {"seal": "passphrase"}
    assert (sealed.opens(OLD), sealed.opens(NEW)) == (False, True)
    sealed.run("machine", "add", "web1.invalid")
    asked = sealed.run("collect", "--all", "--passphrase", sealed.file("new", NEW), code=3)
    assert asked["failed"][0]["code"] != "passphrase-wrong"
    entry = sealed.run("log", "--action", "change-credentials")[0]
    assert (entry["what"], entry["result"]) == ({"seal": "passphrase", "change": True}, "ok")


def test_both_from_standard_input(sealed: Home) -> None:
    sealed.run("seal", "--change", "--passphrase", "-", "--new-passphrase", "-", stdin=f"{OLD}\n{NEW}\n")
    assert sealed.opens(NEW)


def test_the_file_that_the_environment_names_is_the_present_one_only(sealed: Home) -> None:
    sealed.environ["VOLACT_VAMT_PASSPHRASE_FILE"] = sealed.file("old", OLD)[1:]
    assert sealed.run("seal", "--change", code=1)["code"] == "passphrase-missing"
    sealed.run("seal", "--change", "--new-passphrase", sealed.file("new", NEW))
    assert sealed.opens(NEW)


def test_typed_on_a_terminal(sealed: Home) -> None:
    with sealed.typed("seal", "--change") as terminal:
        terminal.answer("Passphrase of VAMT's seal", OLD)
        terminal.answer("New passphrase", NEW)
        terminal.answer("again", NEW)
        assert terminal.end() == 0
    assert sealed.opens(NEW)


@pytest.mark.parametrize(
    ("words", "code", "wanted"),
    [
        (("--passphrase", "@new", "--new-passphrase", "@new"), 1, "passphrase-wrong"),
        (("--passphrase", "@old", "--new-passphrase", "@short"), 2, "usage"),
        (("--passphrase", "@old", "--new-passphrase", "words"), 2, "usage"),
        (("--passphrase", "@old", "--new-passphrase", "@loose"), 4, "key-file-exposed"),
        (("--passphrase", "@old"), 1, "passphrase-missing"),
        (("--passphrase", "@old", "--new-passphrase", "@new", "--keyring"), 2, "usage"),
    ],
)
def test_what_is_wrong_changes_nothing(
    sealed: Home, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, wanted: str
) -> None:
    for name, text, mode in (("new", NEW, 0o600), ("short", "seven77", 0o600), ("loose", NEW, 0o644)):
        sealed.file(name, text, mode)
    monkeypatch.chdir(sealed.folder)
    seal = sealed.folder / "home" / "vamt" / "seal.json"
    before = seal.read_bytes()
    assert sealed.run("seal", "--change", *words, code=code)["code"] == wanted
    assert seal.read_bytes() == before


def test_a_change_needs_a_seal_and_a_seal_takes_no_new_passphrase(place: Home) -> None:
    new = ("--new-passphrase", place.file("new", NEW))
    assert place.run("seal", "--change", *new, code=1)["code"] == "not-set-up"
    assert place.run("seal", *new, code=2)["code"] == "usage"


# --- files that others can read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("login", "set", "--user", "u", "--password", "@secret"),
        ("login", "set", "--user", "u", "--key-file", "private", "--key-passphrase", "@secret"),
        ("login", "set", "--user", "u", "--key", "secret"),
        ("seal", "--passphrase", "@secret"),
        ("discover", "ldap", "ldaps://192.0.2.1", "--base", "dc=x", "--password", "@secret", "--dry-run"),
        ("discover", "dns", "corp.test", "--server", "192.0.2.1", "--key", "@secret", "--dry-run"),
    ],
    ids=lambda words: " ".join(words[:2] + words[-2:]),
)
def test_no_secret_is_read_from_a_file_that_others_can_read(
    place: Home, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    place.file("secret", PASSWORD, 0o640)
    place.file("private", PRIVATE)
    monkeypatch.chdir(place.folder)
    answer = place.run(*words, code=4)
    assert (answer["code"], "secret" in answer["detail"]) == ("key-file-exposed", True)
    if words[0] != "discover":
        assert place.run("login", "show") == []


@pytest.mark.parametrize(
    ("of_kind", "mode", "exposed"),
    [
        (stat.S_IFREG, 0o700, False),
        *[(stat.S_IFREG, 0o600 | bit, True) for bit in (1, 2, 4, 8, 16, 32)],
        (stat.S_IFIFO, 0o666, False),
        (stat.S_IFCHR, 0o666, False),
    ],
)
def test_which_files_are_not_their_owners_alone(of_kind: int, mode: int, exposed: bool) -> None:
    assert is_exposed(of_kind | mode) is exposed


def test_a_secret_may_come_from_what_is_no_file(sealed: Home) -> None:
    """A shell's <(...): nobody else reads it a second time."""
    reading, writing = os.pipe()
    os.write(writing, f"{PASSWORD}\n".encode())
    os.close(writing)
    words = ("login", "set", "--user", "u", "--password", f"@/dev/fd/{reading}")
    assert sealed.run(*words, "--passphrase", sealed.file("old", OLD))["sealed"]
    os.close(reading)
