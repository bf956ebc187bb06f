"""What VAMT must keep secret, sealed: credentials (T28) and product keys (V4, M8).

- A random file key seals with AES-256-GCM; the name of a record is bound to it, so that sealed texts cannot be swapped.
- The file key is sealed by a passphrase (scrypt), or is kept by the system's keyring. ``seal.json`` says which of both.
- A passphrase comes from a file, standard input or a terminal: never from an argument or the environment's value.
- Nothing that is sealed is in an error, a log or a `repr`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from volact.console import refuse_exposed, secret_argument, typed_secret
from volact.files import PRIVATE, write_durably
from volact.protocol.ids import b64u, unb64u
from volact.protocol.problems import BrokenData, DocumentRefused, Refusal, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PASSPHRASE_FILE = "VOLACT_VAMT_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable
"""Names the file with the passphrase, for services."""
SEAL = "seal.json"
FEWEST_CHARACTERS = 8
_VERSION = 1
_N, _R, _P = 2**17, 8, 1
"""scrypt's cost: 128 MiB and a third of a second for each guess."""
_SALT, _KEY, _NONCE = 16, 32, 12
_TEXT = "1."
_FILE_KEY, _CHECK = "volact vamt file key", "volact vamt check"
_SERVICE = "volact vamt"
_LEAST_PRIORITY = 1
"""Below this a backend of the library keyring is none that its authors recommend: it keeps plain text, or nothing."""
_ASKED = "Passphrase of VAMT's seal"


class Sealer:
    """Seals and opens records, each under its own name."""

    def __init__(self, file_key: bytes) -> None:
        """Seal with a key of 32 bytes."""
        self._key = file_key
        self._cipher = AESGCM(file_key)

    def __repr__(self) -> str:
        """Nothing of the key."""
        return "Sealer(...)"

    def seal(self, name: str, data: bytes) -> str:
        """The sealed text of a record's data; another one each time."""
        nonce = secrets.token_bytes(_NONCE)
        return _TEXT + b64u(nonce + self._cipher.encrypt(nonce, data, name.encode()))

    def open(self, name: str, text: str) -> bytes:
        """The data of a sealed record.

        Raises:
            BrokenData: if it is damaged, sealed with another key, or another record's.
        """
        version, _, rest = text.partition(".")
        try:
            sealed = unb64u(rest if version == _TEXT.removesuffix(".") else "")
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
        except (DocumentRefused, InvalidTag, ValueError):
            raise BrokenData(
                f"What is sealed as {name!r} is damaged, or was sealed with another key."
            ) from None

    def sealed_by(self, passphrase: str) -> dict[str, Any]:
        """The members of ``seal.json`` that give this key to who knows the passphrase."""
        salt = secrets.token_bytes(_SALT)
        outer = Sealer(_derived(passphrase, salt, _N, _R, _P))
        return {
            "version": _VERSION,
            "kind": "passphrase",
            "n": _N,
            "r": _R,
            "p": _P,
            "salt": b64u(salt),
            "key": outer.seal(_FILE_KEY, self._key),
        }

    def kept_in_keyring(self) -> dict[str, Any]:
        """Put this key into the system's keyring; the members of ``seal.json`` that say where.

        Raises:
            Refused: `keyring-unavailable`.
        """
        place = secrets.token_hex(8)
        _keyring("set_password", _SERVICE, place, b64u(self._key))
        if _keyring("get_password", _SERVICE, place) != b64u(self._key):
            raise Refused(Refusal("keyring-unavailable", "It does not keep what it is given."))
        return {"version": _VERSION, "kind": "keyring", "id": place, "check": self.seal(_CHECK, b"")}


def is_set_up(folder: Path) -> bool:
    """Whether there is a seal."""
    return (folder / SEAL).exists()


def set_up(folder: Path, passphrase: str | None) -> Sealer:
    """Make a file key, sealed by a passphrase, or kept by the system's keyring if that is None.

    Raises:
        Refused: `already-exists`, `keyring-unavailable`.
        UsageError: if the passphrase is too short.
    """
    if is_set_up(folder):
        raise Refused(Refusal("already-exists", "VAMT has a seal."))
    sealer = Sealer(secrets.token_bytes(_KEY))
    change(folder, sealer, passphrase)
    return sealer


def change(folder: Path, sealer: Sealer, passphrase: str | None) -> None:
    """Seal the same file key by another passphrase, or have the keyring keep it; what it sealed stays as it is.

    What the keyring kept for the seal before is taken out of it. A copy of the file still opens by its old passphrase.

    Raises:
        Refused: `keyring-unavailable`; nothing was changed then.
        UsageError: if the passphrase is too short.
    """
    if passphrase is None:
        members = sealer.kept_in_keyring()
    else:
        if len(passphrase) < FEWEST_CHARACTERS:
            raise UsageError(
                f"The passphrase has fewer than {FEWEST_CHARACTERS} characters.", "Choose a longer one."
            )
        members = sealer.sealed_by(passphrase)
    before = _read(folder) if is_set_up(folder) else {}
    write_durably(folder / SEAL, json.dumps(members, indent=2).encode() + b"\n", PRIVATE)
    if before.get("kind") == "keyring":
        with contextlib.suppress(Refused):  # it is gone already, or locked: the new seal holds all the same
            _keyring("delete_password", _SERVICE, before["id"])


def unlock(folder: Path, passphrase: Callable[[], str]) -> Sealer:
    """The sealer of a folder; `passphrase` is asked only if one is needed.

    Raises:
        Refused: `not-set-up`, `passphrase-wrong`, `keyring-unavailable`.
        BrokenData: if the seal is damaged.
    """
    members = _read(folder)
    if members["kind"] == "keyring":
        kept = _keyring("get_password", _SERVICE, members["id"])
        if kept is None:
            raise Refused(Refusal("keyring-unavailable", "It does not hold VAMT's key; another user's may."))
        sealer = Sealer(_bytes(kept, _KEY))
        sealer.open(_CHECK, members["check"])
        return sealer
    outer = Sealer(_derived(passphrase(), _bytes(members["salt"], _SALT), *(members[one] for one in "nrp")))
    try:
        return Sealer(outer.open(_FILE_KEY, members["key"]))
    except BrokenData:
        raise Refused(Refusal("passphrase-wrong")) from None


def passphrase_argument(given: str | None, environ: Mapping[str, str]) -> str:
    """The passphrase: from ``@FILE`` or ``-`` as given, else from the file that the environment names, else asked for.

    Raises:
        UsageError: if the passphrase itself was given.
        Refused: `passphrase-missing`.
        BrokenData: if the file cannot be read, or others can read it.
    """
    return _passphrase(given, environ) or _normal(typed_secret(_ASKED))


def new_passphrase(given: str | None, environ: Mapping[str, str]) -> str:
    """A passphrase for a seal that is made: as `passphrase_argument`, but what is typed is typed twice.

    Raises:
        UsageError: likewise, or if it was not typed the same twice.
        Refused, BrokenData: likewise.
    """
    found = _passphrase(given, environ)
    if found:
        return found
    typed = typed_secret(f"New passphrase of VAMT's seal, {FEWEST_CHARACTERS} characters or more")
    if typed != typed_secret("The same again"):
        raise UsageError("The two passphrases differ: nothing was changed.", "Type the same one twice.")
    return _normal(typed)


def _passphrase(given: str | None, environ: Mapping[str, str]) -> str:
    """What was given, read; empty if it is to be typed on the terminal."""
    named = environ.get(PASSPHRASE_FILE)
    if given is None and named:
        given = f"@{named}"
    is_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if given is None and not is_terminal:
        raise Refused(Refusal("passphrase-missing"))
    if given is None or (given == "-" and is_terminal):
        return ""
    if given != "-" and not given.startswith("@"):
        raise UsageError(
            "A passphrase is not given as an argument, where others can read it.",
            "Give @FILE, or - and type it.",
        )
    if given.startswith("@"):
        refuse_exposed(given[1:])
    return _normal(secret_argument(given))


def _normal(text: str) -> str:
    if not text:
        raise Refused(Refusal("passphrase-missing", "It is empty."))
    return unicodedata.normalize("NFC", text)


def _derived(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=_KEY, n=n, r=r, p=p).derive(passphrase.encode())


def _read(folder: Path) -> dict[str, Any]:
    try:
        members: dict[str, Any] = json.loads((folder / SEAL).read_bytes())
    except FileNotFoundError:
        raise Refused(Refusal("not-set-up", "VAMT has no seal yet; `volact vamt seal` makes one.")) from None
    except (OSError, ValueError):
        raise BrokenData(f"{SEAL} cannot be read.") from None
    kinds: dict[str, dict[str, type]] = {
        "keyring": {"id": str, "check": str},
        "passphrase": {"n": int, "r": int, "p": int, "salt": str, "key": str},
    }
    wanted = kinds.get(str(members.get("kind"))) if type(members) is dict else None
    if wanted is None or any(type(members.get(name)) is not kind for name, kind in wanted.items()):
        raise BrokenData(f"{SEAL} is not what VAMT wrote.")
    if members["kind"] == "passphrase" and (members["n"], members["r"], members["p"]) != (_N, _R, _P):
        raise BrokenData(f"{SEAL} asks for another cost than VAMT's.")
    return members


def _bytes(text: str, length: int) -> bytes:
    try:
        found = unb64u(text)
    except DocumentRefused:
        found = b""
    if len(found) != length:
        raise BrokenData(f"{SEAL}, or what the keyring keeps for it, is damaged.")
    return found


def _keyring(what: str, *words: str) -> str | None:
    """Have the system's keyring set or get a password.

    Raises:
        Refused: `keyring-unavailable`, with the reason.
    """
    import keyring  # noqa: PLC0415 - slow, and needed only by who chose it
    import keyring.errors  # noqa: PLC0415 - likewise

    backend = keyring.get_keyring()
    if backend.priority < _LEAST_PRIORITY:
        raise Refused(
            Refusal("keyring-unavailable", f"There is none but {backend.name}, which keeps no secrets.")
        )
    try:
        found: str | None = getattr(keyring, what)(*words)
    except Exception as error:  # noqa: BLE001 - backends raise their systems' own errors
        raise Refused(Refusal("keyring-unavailable", f"{type(error).__name__} of {backend.name}.")) from None
    return found
