"""The KMS host keys that a host's folder knows: the one that waits, and those that activated it (K9, K18).

- A key that waits for its activation is ``key.json``, its label, and ``keys/product.pem``, the derived private half,
  0600. Both go when it has activated the host.
- What activated the host is kept in ``activated.json`` by the activation's id, which each delegation of it names: the
  label alone, for an extension asks in the name of the key that activated, whatever waits beside it by then.
- Written in an order that leaves, when the power fails in between, a key that still waits, never one that is lost.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from volact import signing
from volact.commands import not_readable
from volact.files import PRIVATE, flush_folder, write_durably
from volact.protocol import jws
from volact.protocol.problems import BrokenData

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from volact.signing import Signer

_PRIVATE_HALF, _WAITING, _ACTIVATED = "product.pem", "key.json", "activated.json"


class Label(NamedTuple):
    """What is shown and sent of a key: its last group, the thumbprint of its public half, the product it is for."""

    label: str
    key: str
    product: str


class HostKeys:
    """The keys of the host in a folder."""

    def __init__(self, folder: Path) -> None:
        """Know the keys in `folder`."""
        self._folder = folder
        self._pem = folder / "keys" / _PRIVATE_HALF

    def waiting(self) -> Label | None:
        """The key that is installed and waits for its activation; None if none does.

        Raises:
            BrokenData: if its label is damaged.
        """
        members = self._read(_WAITING)
        found = label_of(members) if members else None
        return found if self._pem.exists() else None

    def private_half(self) -> Signer:
        """The key pair of the one that waits.

        Raises:
            BrokenData: if it cannot be used.
        """
        return signing.load(self._pem)

    def install(self, signer: Signer, label: Label) -> None:
        """Let a key wait for its activation in the place of any that does."""
        self._remove(self._folder / _WAITING)  # no label stands beside another's private half
        write_durably(self._pem, signer.pem(), PRIVATE)
        self._write(_WAITING, label._asdict())

    def activated(self, act: str) -> Label | None:
        """The key of the activation `act`; None if it is not known here.

        Raises:
            BrokenData: if what is written of it is damaged.
        """
        found = self._read(_ACTIVATED).get(act)
        return None if found is None else label_of(found)

    def note_activated(self, act: str, label: Label) -> None:
        """Remember which key the activation `act` is of."""
        self._write(_ACTIVATED, {**self._read(_ACTIVATED), act: label._asdict()})

    def drop_waiting(self) -> None:
        """Forget the key that waits: it has activated the host, and nothing needs its private half any more."""
        self._remove(self._pem)
        self._remove(self._folder / _WAITING)

    def _read(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        try:
            members = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise not_readable(path, error) from None
        except (ValueError, RecursionError):
            members = None
        if not isinstance(members, dict):
            raise BrokenData(f"{path} is damaged; install the key again.")
        return members

    def _write(self, name: str, members: Mapping[str, Any]) -> None:
        write_durably(self._folder / name, jws.write_json(dict(members)), PRIVATE)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        flush_folder(path.parent)


def label_of(members: object) -> Label:
    """A label as it was written.

    Raises:
        BrokenData: if it is none.
    """
    if isinstance(members, dict) and set(members) == set(Label._fields):
        found = Label(**members)
        if all(isinstance(one, str) for one in found):
            return found
    raise BrokenData("The label of a host key is damaged; install the key again.")
