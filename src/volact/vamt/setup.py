"""Sets VAMT up, and opens it where it is (`init`; the rest of the commands and `serve`).

All or nothing: key, certificate and database are made in a folder beside and renamed into place. It needs no rights
that an ordinary user has not, and shares nothing with a client or host on the same machine but VOLACT_HOME (V9).
"""

from __future__ import annotations

import os
import pwd
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from volact import commands, config, founding, signing, stores
from volact.clock import clock_for
from volact.files import PRIVATE
from volact.protocol.problems import Refusal, Refused
from volact.vamt import store as sql
from volact.vamt.people import KEY_ADMINISTRATOR, Person
from volact.vamt.store import Store
from volact.vamt.vamt import Vamt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import Connection

    from volact.clock import Clock
    from volact.config import VamtSettings
    from volact.signing import Signer

ROLE = "vamt"
_KEY = "vamt.pem"


class Opened(NamedTuple):
    """A VAMT that is set up, ready to work.

    Attributes:
        settings: as they were when it was opened.
        store: its database.
        signer: its own key; its thumbprint is the fingerprint by which others know it.
        clock: the system's; a laboratory's may be moved, where all publishers are laboratories.
        folder: the role's folder.
        environ: what settings were read with.
    """

    settings: VamtSettings
    store: Store
    signer: Signer
    clock: Clock
    folder: Path
    environ: Mapping[str, str]

    def vamt(self) -> Vamt:
        """The role, over this store."""
        return Vamt(self.store, self.clock, self.signer, secrets.token_bytes)

    def certificate(self) -> tuple[Path, Path]:
        """The files of the TLS certificate and its key: the set ones, or the self-made.

        Raises:
            SettingInvalid: if only one of the two is set.
        """
        from volact import certificate  # noqa: PLC0415 - X.509 is for who serves

        return certificate.chosen(self.settings.tls_certificate, self.settings.tls_key, self.folder / "tls")


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """VAMT's folder in VOLACT_HOME."""
    return config.home(environ) / ROLE


def operating_person() -> Person:
    """Who gives commands on this machine: the user that may read VAMT's store, and so is a key administrator."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = f"uid {os.geteuid()}"
    return Person(name, KEY_ADMINISTRATOR)


def _settings(home: Path, environ: Mapping[str, str], rows: Mapping[str, str] | None = None) -> VamtSettings:
    try:
        return config.load(ROLE, home, environ, rows)  # type: ignore[no-any-return]  # of this role
    except OSError as error:
        raise commands.not_readable(home / f"{ROLE}.toml", error) from None


def initialise(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """Set up a new VAMT that people call `name`; its fingerprint, by which other VAMTs know its lists.

    Raises:
        Refused: `already-exists`.
        BrokenData, OSError: if something cannot be written; nothing was set up then.
    """
    place = folder(environ)
    settings = _settings(place.parent, environ)
    founding.check_free(place)
    with founding.made_aside(place) as aside:
        return _make(aside, place, settings, name)


def _make(aside: Path, place: Path, settings: VamtSettings, name: str) -> str:
    (aside / "keys").mkdir(mode=0o700)
    signer = signing.create(aside / "keys" / _KEY)
    from volact import certificate  # noqa: PLC0415 - as above

    certificate.make(aside / "tls", name)
    file = aside / f"{ROLE}.db"
    if not settings.database:
        file.touch(PRIVATE)  # and so are the files that SQLite puts beside it
    store = Store(stores.new_engine(settings.database, file))
    with founding.founded(store, aside, place, settings.database) as tx:
        _introduce(tx, name)
    return signer.kid


def _introduce(tx: Connection, name: str) -> None:
    if sql.name(tx) is not None:
        raise Refused(Refusal("already-exists", "The database holds a VAMT already."))
    sql.introduce(tx, name)


@contextmanager
def opened(environ: Mapping[str, str] = os.environ) -> Iterator[Opened]:
    """The VAMT that is set up here.

    Raises:
        Refused: `not-set-up`.
        BrokenData: if its store or key cannot be used.
    """
    place = folder(environ)
    if not place.is_dir():
        raise Refused(Refusal("not-set-up", "Run `volact vamt init`."))
    settings = _settings(place.parent, environ)
    signer = signing.load(place / "keys" / _KEY)
    store = Store(stores.open_engine(settings.database, place / f"{ROLE}.db"))
    try:
        store.migrate()
        with store.reading() as tx:
            settings = _settings(place.parent, environ, sql.settings(tx))
            is_here = sql.name(tx) is not None
            labs = [one.lab for one in sql.publishers(tx)]
        if not is_here:
            raise Refused(Refusal("not-set-up", "The database holds no VAMT."))
        clock = clock_for(environ, lab=bool(labs) and all(labs))
        yield Opened(settings, store, signer, clock, place, environ)
    finally:
        store.close()
