"""The client's folder as `check()` sees it: names of the files, and reading them (DESIGN section 4).

Reading never writes and needs no rights beyond reading. What was verified once is remembered with its bytes for
as long as the process lives, so that a product may ask as often as it likes. Kept small: it starts cold.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from volact.client import state as states
from volact.protocol import policy as policies
from volact.protocol import trust
from volact.protocol.problems import BrokenData, DocumentRefused
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from volact.client.state import State
    from volact.protocol.documents import Document
    from volact.protocol.policy import Policy
    from volact.protocol.trust import Granted, Roots

_T = TypeVar("_T")

CLIENT = "client"
IDENTITY, NEXT_IDENTITY = "identity.pem", "identity.next.pem"
ROOT, STATE, PRODUCTS = "root.json", "state.json", "products"
PRODUCT, GRANT, GRANT_ASIDE, PENDING = "product.json", "grant.json", "grant.aside.json", "pending.json"
LEASE, SETTINGS, RETURN = "lease.json", "kms.json", "return.json"
KEY, KEY_LABEL = "key.pem", "key.json"
MENDS = {
    ROOT: "Installing the product's file again mends it.",
    PRODUCT: "Installing the product's file again mends it.",
    GRANT: "Remove it, then activate again.",
    LEASE: "Remove it, then activate again.",
    STATE: "`volact client generalize` starts this machine anew.",
}
"""What helps against a damaged file, by its name."""
_MOST_REMEMBERED = 64
LARGEST = 1024 * 1024
_BLOCK = 64 * 1024

_remembered: dict[str, tuple[bytes, str, Any]] = {}


class Product(NamedTuple):
    """An installed product: its verified document and the policy in it."""

    document: Document
    policy: Policy
    granted: Granted

    @property
    def id(self) -> str:
        """The product id."""
        return str(self.document["sub"])


def publisher_folder(home: str, pub: str) -> str:
    """The folder of one publisher in the home of everything."""
    return f"{home}/{CLIENT}/{pub}"


def product_file(home: str, pub: str, product: str, name: str) -> str:
    """A file of one product."""
    return f"{home}/{CLIENT}/{pub}/{PRODUCTS}/{product}/{name}"


def has_product(home: str, pub: str, product: str) -> bool:
    """Whether the product was installed in this home."""
    return os.path.exists(product_file(home, pub, product, PRODUCT))


def roots(home: str, pub: str) -> Roots:
    """The publisher's root documents.

    Raises:
        BrokenData: if they are missing, damaged or another's.
    """
    path = f"{publisher_folder(home, pub)}/{ROOT}"
    return _opened(path, pub, lambda bundle: trust.open_roots(bundle, pub, bundle.get("roots", ())))


def product(home: str, pub: str, name: str, known: Roots) -> Product:
    """An installed product.

    Raises:
        BrokenData: if its file is missing, damaged or another's.
    """
    path = product_file(home, pub, name, PRODUCT)

    def open_product(bundle: dict[str, Any]) -> Product:
        granted = trust.verify(bundle, "product", known)
        document = granted.document
        if document["sub"] != name:
            raise DocumentRefused("product: of another product")
        return Product(document, policies.read(document["pol"], document["edition"]), granted)

    return _opened(path, _salt(known), open_product)


def grant(home: str, pub: str, name: str, known: Roots) -> Granted | None:
    """The stored confirmation of a product, whether it still stands or not; None if there is none.

    Raises:
        BrokenData: if its file is damaged or another's.
    """
    return _granted(product_file(home, pub, name, GRANT), "confirmation", name, known)


def lease(home: str, pub: str, name: str, known: Roots) -> Granted | None:
    """The stored lease of a product, whether it still stands or not; None if there is none.

    Raises:
        BrokenData: if its file is damaged or another's.
    """
    return _granted(product_file(home, pub, name, LEASE), "lease", name, known)


def held(home: str, pub: str, name: str, known: Roots) -> Granted | None:
    """What is granted: the confirmation, else the lease, else None (K22: one at a time).

    Raises:
        BrokenData: if its file is damaged or another's.
    """
    return grant(home, pub, name, known) or lease(home, pub, name, known)


def _granted(path: str, kind: str, name: str, known: Roots) -> Granted | None:
    if not os.path.exists(path):
        return None

    def open_grant(bundle: dict[str, Any]) -> Granted:
        granted = trust.verify(bundle, kind, known)
        if granted.document["prd"] != name:
            raise DocumentRefused(f"{kind}: of another product")
        return granted

    return _opened(path, _salt(known), open_grant)


def state(home: str, pub: str) -> State | None:
    """What the client remembers of a publisher; None before its first start.

    Raises:
        BrokenData: if the file is damaged, another's or newer.
    """
    path = f"{publisher_folder(home, pub)}/{STATE}"
    if not os.path.exists(path):
        return None
    found = _opened(path, pub, lambda bundle: states.read(bundle, path))
    if found.pub != pub:
        raise BrokenData(f"{path} is of another publisher.")
    return found


def read_file(path: str, most: int = LARGEST) -> bytes:
    """The bytes of a file of ours, which has at most so many.

    Raises:
        BrokenData: if it is missing, cannot be read, or is far too large.
    """
    data = b""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while (part := os.read(descriptor, _BLOCK)) and len(data) <= most:
                data += part
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BrokenData(f"{path}: {error.strerror}.", "not-readable") from None
    if len(data) > most:
        raise BrokenData(f"{path} is larger than {most} bytes.")
    return data


def _salt(known: Roots) -> str:
    """What a verdict rests on besides the bytes of the file: the root documents that are known."""
    return "".join(document.jti for document in known.documents)


def _opened(path: str, salt: str, verify: Callable[[dict[str, Any]], _T]) -> _T:
    """The verified content of a file, remembered with the bytes that it was verified from."""
    data = read_file(path)
    known = _remembered.get(path)
    if known is not None and known[0] == data and known[1] == salt:
        found: _T = known[2]
        return found
    try:
        found = verify(trust.read_bundle(data))
    except DocumentRefused as error:
        mend = MENDS[os.path.basename(path)]
        raise BrokenData(f"{path}: {error.refusal.detail}. {mend}") from None
    if len(_remembered) >= _MOST_REMEMBERED:
        _remembered.clear()
    _remembered[path] = data, salt, found
    return found
