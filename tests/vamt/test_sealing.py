"""What VAMT keeps secret, sealed by a passphrase or by the system's keyring (M8, T28)."""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.backends.null
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import given
from hypothesis import strategies as st

from volact.protocol.problems import BrokenData, Refused, UsageError, VolactError
from volact.vamt import sealing
from volact.vamt.sealing import SEAL, Sealer, change, is_set_up, passphrase_argument, set_up, unlock

PASSPHRASE = "a canary that nobody prints"
SECRET = b"another canary \x00\xff"
KEY = bytes(range(32))


def code(error: "pytest.ExceptionInfo[VolactError]") -> str:
    return error.value.refusal.code


def never() -> str:
    raise AssertionError("no passphrase is needed")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder whose seal has a passphrase, and a text that it sealed; made once, for scrypt takes its time."""
    folder = tmp_path_factory.mktemp("vamt")
    return folder, set_up(folder, PASSPHRASE).seal("login web", SECRET)


def test_what_is_sealed_is_opened_under_its_name_and_no_other() -> None:
    sealer = Sealer(KEY)
    text = sealer.seal("key 1", SECRET)
    assert sealer.open("key 1", text) == SECRET
    assert text != sealer.seal("key 1", SECRET)
    for name, other in (("key 2", sealer), ("", sealer), ("key 1", Sealer(bytes(32)))):
        with pytest.raises(BrokenData):
            other.open(name, text)
    assert "canary" not in repr(sealer) + text


def test_another_program_opens_it_by_the_documented_form() -> None:
    """AES-256-GCM, 12 bytes of nonce, the name as associated data, base64url."""
    text = Sealer(KEY).seal("key 1", SECRET)
    version, body = text.split(".")
    data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    assert version == "1"
    assert AESGCM(KEY).decrypt(data[:12], data[12:], b"key 1") == SECRET


@given(data=st.binary(max_size=40), at=st.integers(0, 10_000), other=st.characters(max_codepoint=127))
def test_no_changed_text_is_opened(data: bytes, at: int, other: str) -> None:
    sealer = Sealer(KEY)
    text = sealer.seal("name", data)
    at %= len(text)
    changed = text[:at] + other + text[at + 1 :]
    for one in (changed, text[:at], text + other):
        if one != text:
            with pytest.raises(BrokenData):
                sealer.open("name", one)


def test_a_passphrase_opens_it_again_and_another_does_not(sealed: tuple[Path, str]) -> None:
    folder, text = sealed
    assert unlock(folder, lambda: PASSPHRASE).open("login web", text) == SECRET
    with pytest.raises(Refused) as refused:
        unlock(folder, lambda: PASSPHRASE + ".")
    assert code(refused) == "passphrase-wrong"
    assert refused.value.exit_code == 1
    assert PASSPHRASE not in str(refused.value)


def test_the_file_key_is_sealed_by_scrypt_and_only_its_owner_reads_the_file(sealed: tuple[Path, str]) -> None:
    file = sealed[0] / SEAL
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    members = json.loads(file.read_text())
    assert (members["kind"], members["n"], members["r"], members["p"]) == ("passphrase", 2**17, 8, 1)

    def raw(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    outer = Scrypt(salt=raw(members["salt"]), length=32, n=2**17, r=8, p=1).derive(PASSPHRASE.encode())
    body = raw(members["key"].removeprefix("1."))
    file_key = AESGCM(outer).decrypt(body[:12], body[12:], b"volact vamt file key")
    assert Sealer(file_key).open("login web", sealed[1]) == SECRET


@pytest.mark.parametrize(
    "change_",
    [
        {"n": 2**30},
        {"n": 2**10},
        {"r": 80},
        {"p": 2},
        {"n": "131072"},
        {"salt": "AAAA"},
        {"salt": None},
        {"salt": "!"},
        {"kind": "rot13"},
        {"kind": None},
        {"key": 7},
    ],
)
def test_a_damaged_seal_is_said_before_anything_is_computed(
    sealed: tuple[Path, str], tmp_path: Path, change_: dict[str, object]
) -> None:
    members = json.loads((sealed[0] / SEAL).read_text())
    (tmp_path / SEAL).write_text(json.dumps(members | change_))
    with pytest.raises(BrokenData) as broken:
        unlock(tmp_path, lambda: PASSPHRASE)
    assert code(broken) == "data-broken"


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "{", "\0"])
def test_a_seal_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / SEAL).write_text(text)
    with pytest.raises(BrokenData):
        unlock(tmp_path, never)


def test_there_is_one_seal_and_none_at_first(sealed: tuple[Path, str], tmp_path: Path) -> None:
    assert not is_set_up(tmp_path)
    with pytest.raises(Refused) as refused:
        unlock(tmp_path, never)
    assert code(refused) == "not-set-up"
    assert is_set_up(sealed[0])
    before = (sealed[0] / SEAL).read_bytes()
    with pytest.raises(Refused) as refused:
        set_up(sealed[0], PASSPHRASE)
    assert code(refused) == "already-exists"
    assert (sealed[0] / SEAL).read_bytes() == before


def test_a_new_passphrase_opens_what_the_old_one_sealed(sealed: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copy(sealed[0] / SEAL, tmp_path / SEAL)
    change(tmp_path, unlock(tmp_path, lambda: PASSPHRASE), "another passphrase")
    with pytest.raises(Refused):
        unlock(tmp_path, lambda: PASSPHRASE)
    assert unlock(tmp_path, lambda: "another passphrase").open("login web", sealed[1]) == SECRET


@pytest.mark.parametrize(("length", "is_taken"), [(7, False), (8, True)])
def test_how_short_a_passphrase_may_be(tmp_path: Path, length: int, is_taken: bool) -> None:
    if is_taken:
        set_up(tmp_path, "x" * length)
    else:
        with pytest.raises(UsageError):
            set_up(tmp_path, "x" * length)
    assert is_set_up(tmp_path) is is_taken


# --- where a passphrase comes from -----------------------------------------------------------------------------------


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text(PASSPHRASE + "\n")
    return file


def test_from_a_file_from_standard_input_or_as_the_environment_says(
    secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert passphrase_argument(f"@{secret_file}", {}) == PASSPHRASE
    assert passphrase_argument(None, {"VOLACT_VAMT_PASSPHRASE_FILE": str(secret_file)}) == PASSPHRASE
    with secret_file.open(encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert passphrase_argument("-", {"VOLACT_VAMT_PASSPHRASE_FILE": "/nowhere"}) == PASSPHRASE


def test_never_from_an_argument(secret_file: Path) -> None:
    with pytest.raises(UsageError) as wrong:
        passphrase_argument(PASSPHRASE, {})
    assert "canary" not in str(wrong.value) + wrong.value.next_step


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_never_from_a_file_that_others_can_read(secret_file: Path, mode: int) -> None:
    secret_file.chmod(mode)
    with pytest.raises(BrokenData) as broken:
        passphrase_argument(f"@{secret_file}", {})
    assert code(broken) == "key-file-exposed"


def test_a_file_that_is_not_there_or_empty(secret_file: Path, tmp_path: Path) -> None:
    with pytest.raises(BrokenData) as broken:
        passphrase_argument(f"@{tmp_path}/nothing", {})
    assert code(broken) == "not-readable"
    secret_file.write_text("\n")
    with pytest.raises(Refused) as refused:
        passphrase_argument(f"@{secret_file}", {})
    assert code(refused) == "passphrase-missing"


def test_without_a_terminal_nobody_is_asked() -> None:
    with pytest.raises(Refused) as refused:
        passphrase_argument(None, {})
    assert code(refused) == "passphrase-missing"


def test_a_letter_is_the_same_however_it_was_typed(secret_file: Path) -> None:
    secret_file.write_text("Schlu\u0308ssel\n")
    composed = secret_file.with_name("other")
    composed.touch(0o600)
    composed.write_text("Schl\u00fcssel\n")
    assert passphrase_argument(f"@{secret_file}", {}) == passphrase_argument(f"@{composed}", {})


# --- the system's keyring --------------------------------------------------------------------------------------------


class Ring(keyring.backend.KeyringBackend):
    """A keyring of this process: a backend by the library's own interface, which keeps what it is given."""

    priority = 5.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Locked(Ring):
    def get_password(self, service: str, username: str) -> str | None:
        raise RuntimeError(PASSPHRASE)


class PlainFile(Ring):
    """Keeps what it is given, but where anybody can read it: its authors say so by this number."""

    priority = 0.5


@pytest.fixture
def ring() -> Iterator[Ring]:
    before, own = keyring.get_keyring(), Ring()
    keyring.set_keyring(own)
    yield own
    keyring.set_keyring(before)


def test_the_keyring_keeps_the_key_and_no_passphrase_is_needed(ring: Ring, tmp_path: Path) -> None:
    text = set_up(tmp_path, None).seal("login web", SECRET)
    assert unlock(tmp_path, never).open("login web", text) == SECRET
    (kept,) = ring.kept.values()
    assert kept not in (tmp_path / SEAL).read_text()


@pytest.mark.parametrize(
    "backend",
    [
        keyring.backends.null.Keyring(),  # type: ignore[no-untyped-call]
        keyring.backends.fail.Keyring(),  # type: ignore[no-untyped-call]
        Locked(),
        PlainFile(),
    ],
)
def test_a_keyring_that_keeps_nothing_is_refused(
    ring: Ring, tmp_path: Path, backend: keyring.backend.KeyringBackend
) -> None:
    keyring.set_keyring(backend)
    with pytest.raises(Refused) as refused:
        set_up(tmp_path, None)
    assert code(refused) == "keyring-unavailable"
    assert "canary" not in str(refused.value)
    assert not is_set_up(tmp_path)


def test_a_keyring_without_the_key_or_with_another_one(ring: Ring, tmp_path: Path) -> None:
    set_up(tmp_path, None)
    (place,) = ring.kept
    ring.kept[place] = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
    with pytest.raises(BrokenData):
        unlock(tmp_path, never)
    ring.kept[place] = "short"
    with pytest.raises(BrokenData):
        unlock(tmp_path, never)
    ring.kept.clear()
    with pytest.raises(Refused) as refused:
        unlock(tmp_path, never)
    assert code(refused) == "keyring-unavailable"


def test_from_a_passphrase_to_the_keyring_and_back(
    ring: Ring, sealed: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copy(sealed[0] / SEAL, tmp_path / SEAL)
    change(tmp_path, unlock(tmp_path, lambda: PASSPHRASE), None)
    opened = unlock(tmp_path, never)
    assert opened.open("login web", sealed[1]) == SECRET
    assert len(ring.kept) == 1
    change(tmp_path, opened, None)
    assert len(ring.kept) == 1  # the new place, and not the old one
    change(tmp_path, opened, "yet another one")
    assert ring.kept == {}
    assert unlock(tmp_path, lambda: "yet another one").open("login web", sealed[1]) == SECRET


_IN_SESSION = """
import sys, pathlib
from volact.vamt import sealing
folder = pathlib.Path(sys.argv[1])
if not sealing.is_set_up(folder):
    sealing.set_up(folder, None)
sealer = sealing.unlock(folder, lambda: sys.exit("a passphrase was asked for"))
sys.stdout.write(sealer.open("n", sealer.seal("n", b"kept")).decode())
"""


@pytest.mark.sockets
def test_the_real_secret_service(tmp_path: Path) -> None:
    """GNOME's keyring in a D-Bus session of the test's own, unlocked by a passphrase, asked by two processes."""
    missing = [name for name in ("dbus-run-session", "gnome-keyring-daemon") if shutil.which(name) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)} (Debian: dbus-daemon, gnome-keyring)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path / "vamt"
    folder.mkdir()
    script = tmp_path / "in_session.py"
    script.write_text(_IN_SESSION)
    steps = (
        'printf %s "a login" | gnome-keyring-daemon --unlock --components=secrets >/dev/null && '
        f'"{sys.executable}" "{script}" "{folder}" && "{sys.executable}" "{script}" "{folder}"'
    )
    environ = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.SecretService.Keyring"
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", steps],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "keptkept"), done.stderr
    assert json.loads((folder / SEAL).read_text())["kind"] == "keyring"


def test_the_name_of_the_variable_is_the_documented_one() -> None:
    assert sealing.PASSPHRASE_FILE == "VOLACT_VAMT_PASSPHRASE_FILE"
