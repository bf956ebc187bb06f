"""The client's folder as the commands write it (DESIGN section 4).

- Every file is replaced as a whole and durably: after a crash it is the old one or the new one.
- One writer at a time: a second command waits a little and is then refused.
- A new identity is two files (the key, and the state that it signs). It is written aside, the state is signed
  with it, then it is renamed into place; a crash in between is completed or undone at the next start.
- Public files are readable by every user, whatever the umask; private ones by their owner alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from volact import signing
from volact.client import address, folder, state
from volact.files import PRIVATE, flush_folder, make_folder, write_durably
from volact.protocol import ids, jws, keys, trust
from volact.protocol.policy import DEFAULT_PORT
from volact.protocol.problems import BrokenData, DocumentRefused, Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from volact.client.state import State
    from volact.signing import Signer

LABEL_VERSION = 1
SETTINGS_VERSION = 2
"""2: a domain, and caching (D3). A file of version 1 is read; what it lacks has its default."""
LOCK = ".lock"
LOCK_PATIENCE = 40.0
LOCK_TICK = 0.05
"""Seconds between two looks of a command that waits for the lock."""
_READABLE = 0o755
_TEMPORARY = (".*.json.*", ".*.jsonl.*", ".*.pem.*")  # as `files.write_durably` names them


class Label(NamedTuple):
    """What may be shown of an installed key, and how its holder is named.

    Attributes:
        kind: ``mak`` or ``retail``.
        label: the key's last group.
        key: thumbprint of the public half.
    """

    kind: str
    label: str
    key: str


class Settings(NamedTuple):
    """What an administrator set for a product as a KMS client (rule S).

    Attributes:
        name: the host's name or address; empty if none is set.
        port: its port; without a name the port of every host that DNS names. None if none is set.
        renewal: own renewal interval, seconds; None if none is set.
        retry: own retry interval, likewise.
        domain: the only domain in which hosts are looked for; empty if none is set.
        caching: whether the host that answered last is asked first (`/skhc`, `/ckhc`).
    """

    name: str = ""
    port: int | None = None
    renewal: int | None = None
    retry: int | None = None
    domain: str = ""
    caching: bool = True

    @property
    def host(self) -> address.Address | None:
        """The host that is set by hand; a port alone is none."""
        return (
            address.Address(self.name, DEFAULT_PORT if self.port is None else self.port)
            if self.name
            else None
        )


class Store:
    """The client's files in one home."""

    def __init__(self, home: str, *, patience: float = LOCK_PATIENCE) -> None:
        """Keep everything in `home`; wait `patience` seconds for another command to end."""
        self.home = home
        self._patience = patience

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer, in a folder without leftovers of a writer that was killed.

        Raises:
            Refused: ``in-use`` if another command does not end.
            OSError: if the folder cannot be written.
        """
        client = Path(self.home, folder.CLIENT)
        self._make(client)
        with (client / LOCK).open("a") as file:
            self._acquire(file.fileno())
            for pub in self.publishers():
                self._recover(pub)
            yield

    def _acquire(self, descriptor: int) -> None:
        until = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Refused(Refusal("in-use")) from None
                time.sleep(LOCK_TICK)

    def _recover(self, pub: str) -> None:
        """Remove temporary files, and complete or undo a change of identity."""
        base = Path(folder.publisher_folder(self.home, pub))
        for place in (base.parent, base, *(base / folder.PRODUCTS).glob("*")):
            for pattern in _TEMPORARY:
                for leftover in place.glob(pattern):
                    leftover.unlink()
        aside = base / folder.NEXT_IDENTITY
        if aside.exists():
            found = folder.state(self.home, pub)
            if found is not None and found.cmid == signing.load(aside).kid:
                self._put_identity(base)
            else:
                aside.unlink()
                flush_folder(base)

    def publishers(self) -> list[str]:
        """The publishers that something is stored of.

        Raises:
            BrokenData: if the folder is there and this user may not read it.
        """
        client = Path(self.home, folder.CLIENT)
        try:
            return sorted(name for name in os.listdir(client) if ids.is_thumbprint(name))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise BrokenData(f"{client}: {error.strerror}.", "not-readable") from None

    def products(self, pub: str) -> list[str]:
        """The installed products of a publisher."""
        base = Path(folder.publisher_folder(self.home, pub), folder.PRODUCTS)
        return sorted(path.parent.name for path in base.glob("*/" + folder.PRODUCT))

    def identity(self, pub: str) -> Signer | None:
        """This machine's key for a publisher; None before the first start.

        Raises:
            BrokenData: if it is damaged, or others can read it.
        """
        path = Path(folder.publisher_folder(self.home, pub), folder.IDENTITY)
        return signing.load(path) if path.exists() else None

    def state(self, pub: str) -> tuple[Signer, State] | None:
        """The identity and what is remembered under it; None before the first start.

        Raises:
            BrokenData: if one of them is damaged, or they are not of each other.
        """
        signer, found = self.identity(pub), folder.state(self.home, pub)
        if found is None:
            return None
        if signer is None or signer.kid != found.cmid:
            where = Path(folder.publisher_folder(self.home, pub), folder.STATE)
            raise BrokenData(
                f"{where} is not signed by this machine's identity. {folder.MENDS[folder.STATE]}"
            )
        return signer, found

    def write_roots(self, roots: trust.Roots) -> None:
        """Store a publisher's root documents."""
        base = Path(folder.publisher_folder(self.home, roots.pub))
        self._make(base)
        self._write(base / folder.ROOT, {**roots.first, "roots": roots.later_tokens()})

    def write_product(self, granted: trust.Granted) -> None:
        """Store a product, root document 1 included, so that the file can be installed elsewhere."""
        path = self._product_file(granted.roots.pub, granted.document["sub"], folder.PRODUCT)
        self._make(path.parent)
        self._write(path, {**granted.bundle(), "root": granted.roots.first})

    def write_grant(self, granted: trust.Granted) -> None:
        """Store a confirmation."""
        path = self._product_file(granted.roots.pub, granted.document["prd"], folder.GRANT)
        self._write(path, granted.bundle())

    def write_lease(self, granted: trust.Granted) -> None:
        """Store a lease; it replaces the one before."""
        path = self._product_file(granted.roots.pub, granted.document["prd"], folder.LEASE)
        self._write(path, granted.bundle())

    def set_grant_aside(self, pub: str, product: str) -> None:
        """Take a confirmation out of force; it is kept beside, and can be applied by hand where it fits."""
        path = self._product_file(pub, product, folder.GRANT)
        if path.exists():
            path.replace(path.with_name(folder.GRANT_ASIDE))
            flush_folder(path.parent)

    def write_state(self, signer: Signer, found: State) -> None:
        """Sign and store what is remembered."""
        path = Path(folder.publisher_folder(self.home, found.pub), folder.STATE)
        self._write(path, _signed(signer, found._replace(cmid=signer.kid)))

    def change_identity(self, signer: Signer, found: State) -> None:
        """Store a new identity and the state that it signs: both or neither."""
        base = Path(folder.publisher_folder(self.home, found.pub))
        write_durably(base / folder.NEXT_IDENTITY, signer.pem(), PRIVATE)
        self.write_state(signer, found)
        self._put_identity(base)

    def _put_identity(self, base: Path) -> None:
        (base / folder.NEXT_IDENTITY).replace(base / folder.IDENTITY)
        flush_folder(base)

    def pending(self, pub: str, product: str, name: str = folder.PENDING) -> dict[str, Any] | None:
        """The request (`folder.RETURN`: the return) that waits for its answer, as it was or will be sent, or None.

        Raises:
            BrokenData: if its file is damaged.
        """
        path = self._product_file(pub, product, name)
        if not path.exists():
            return None
        try:
            return trust.read_bundle(folder.read_file(str(path)))
        except DocumentRefused as error:
            raise BrokenData(f"{path}: {error.refusal.detail}.") from None

    def has_return(self, pub: str, product: str) -> bool:
        """Whether a return waits for its answer, for anybody who asks."""
        return self._product_file(pub, product, folder.RETURN).exists()

    def write_pending(
        self, pub: str, product: str, bundle: dict[str, Any], name: str = folder.PENDING
    ) -> None:
        """Store a request before it is sent, so that a lost answer is asked for by the same bytes."""
        write_durably(self._product_file(pub, product, name), jws.write_json(bundle), PRIVATE)

    def key(self, pub: str, product: str) -> Signer | None:
        """The private half that was derived from the product key; None if there is none or it was dropped.

        Raises:
            BrokenData: if it is damaged, or others can read it.
        """
        path = self._product_file(pub, product, folder.KEY)
        return signing.load(path) if path.exists() else None

    def label(self, pub: str, product: str) -> Label | None:
        """What may be shown of the installed key; None if there is none.

        Raises:
            BrokenData: if the file is damaged or newer.
        """
        path = self._product_file(pub, product, folder.KEY_LABEL)
        if not path.exists():
            return None
        try:
            members = trust.read_bundle(folder.read_file(str(path)))
        except DocumentRefused as error:
            raise BrokenData(f"{path}: {error.refusal.detail}.") from None
        state.check_version(members, str(path), LABEL_VERSION)
        label = Label(*(str(members.get(name, "")) for name in Label._fields))
        if label.kind not in keys.KINDS.values() or not label.label or not ids.is_thumbprint(label.key):
            raise BrokenData(f"{path} is not complete.")
        return label

    def write_key(self, pub: str, product: str, key: keys.ProductKey) -> Label:
        """Store the key pair of a product key; the key itself is not stored (M8)."""
        signer = signing.Signer(key.private_key(pub))
        label = Label(key.kind, key.label, signer.kid)
        write_durably(self._product_file(pub, product, folder.KEY), signer.pem(), PRIVATE)
        path = self._product_file(pub, product, folder.KEY_LABEL)
        self._write(path, {"v": LABEL_VERSION, **label._asdict()})
        return label

    def settings(self, pub: str, product: str) -> Settings:
        """What was set by hand for a product as a KMS client; they stay through `/rearm` and in an image.

        Raises:
            BrokenData: if the file is damaged or newer.
        """
        path = self._product_file(pub, product, folder.SETTINGS)
        if not path.exists():
            return Settings()
        try:
            members = trust.read_bundle(folder.read_file(str(path)))
        except DocumentRefused as error:
            raise BrokenData(f"{path}: {error.refusal.detail}. Remove it, then set the host again.") from None
        state.check_version(members, str(path), SETTINGS_VERSION)
        found = Settings(**{name: members[name] for name in Settings._fields if name in members})
        numbers = [number for number in (found.port, found.renewal, found.retry) if number is not None]
        if (
            type(found.name) is not str
            or any(type(number) is not int for number in numbers)
            or not (found.port is None or address.is_port(found.port))
            or type(found.domain) is not str
            or type(found.caching) is not bool
        ):
            raise BrokenData(f"{path} is not complete. Remove it, then set the host again.")
        return found

    def write_settings(self, pub: str, product: str, settings: Settings) -> None:
        """Store what was set by hand."""
        path = self._product_file(pub, product, folder.SETTINGS)
        self._write(path, {"v": SETTINGS_VERSION, **settings._asdict()})

    def remove(self, pub: str, product: str, *names: str) -> None:
        """Remove files of a product that are there."""
        for name in names:
            self._product_file(pub, product, name).unlink(missing_ok=True)
        flush_folder(Path(folder.product_file(self.home, pub, product, "")))

    def forget(self, pub: str) -> None:
        """Remove identity, state, grants and requests of a publisher: what must not be in an image (M4)."""
        for product in self.products(pub):
            granted = (folder.GRANT, folder.GRANT_ASIDE, folder.LEASE)
            self.remove(pub, product, *granted, folder.PENDING, folder.RETURN)
        base = Path(folder.publisher_folder(self.home, pub))
        # The state first: an identity without a state is a machine that has not started.
        for name in (folder.STATE, folder.NEXT_IDENTITY, folder.IDENTITY):
            (base / name).unlink(missing_ok=True)
        flush_folder(base)

    def fingerprints(self) -> tuple[tuple[str, int, int], ...]:
        """Which files are there now: a cheap look that another command's write changes.

        Every file is replaced by a rename, which changes its folder; of `state.json`, the file itself is looked
        at, for beside it lies what the service alone writes.
        """
        found = []
        for path in [
            *Path(self.home, folder.CLIENT).glob(f"*/{folder.PRODUCTS}/*"),
            *Path(self.home, folder.CLIENT).glob(f"*/{folder.STATE}"),
        ]:
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((str(path), stat.st_mtime_ns, stat.st_ino))
        return tuple(sorted(found))

    def _product_file(self, pub: str, product: str, name: str) -> Path:
        return Path(folder.product_file(self.home, pub, product, name))

    def _write(self, path: Path, members: Mapping[str, Any]) -> None:
        write_durably(path, jws.write_json(dict(members)))

    def _make(self, path: Path) -> None:
        """Make a folder that every user can read into, and those above it up to the home."""
        if path.is_dir():
            return
        if path != Path(self.home):
            self._make(path.parent)
        make_folder(path)
        path.chmod(_READABLE)


def _signed(signer: Signer, found: State) -> dict[str, object]:
    return {"token": signer.sign_payload(state.NAME, found.payload()), "jwk": signer.jwk.members()}
