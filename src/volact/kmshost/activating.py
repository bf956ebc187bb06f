"""How a host gets the right to issue: its key, its activation, the extension of its delegation (K9, K18, K21).

- Of the key only the derived private half is kept, 0600, and only until the host is activated; then its label alone.
- A request is stored before it is sent or written to a file; until it is answered it is sent again byte for byte,
  so that a lost answer costs none of the ten activations.
- An answer is verified to the pinned root, with every product that it brings, before a byte is stored; then it is
  stored in one transaction.
- An extension never shortens what is held unless that is asked for: online the authority gives less than by file.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from volact import signing
from volact.calls import Caller, problem_of
from volact.commands import not_readable, when
from volact.facts import facts_for
from volact.files import PRIVATE, flush_folder, write_durably
from volact.kmshost import setup
from volact.kmshost import store as sql
from volact.protocol import ids, jws, keys, machine, trust
from volact.protocol.policy import DAY, HOST_DELEGATION_ONLINE
from volact.protocol.problems import (
    BrokenData,
    DocumentRefused,
    Refusal,
    Refused,
    Unreachable,
    UsageError,
    VolactError,
)
from volact.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from volact.calls import Answer
    from volact.kmshost.setup import Opened
    from volact.protocol.documents import Document
    from volact.protocol.trust import Granted, Roots

HOST, EXTEND = "host", "extend"
MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer with the products of a delegation."""
_ID_BYTES = 16
_OK = 200
_KEY, _LABEL, _PENDING = "product.pem", "key.json", "pending.json"
_SPENT = ("request-id-reused", "machine-blocked", "document-refused", "delegation-unknown")
"""Refusals of this very request for ever: the next try needs a new one."""


class Label(NamedTuple):
    """The key that was installed: its last group, the thumbprint of its public half, the product it is for."""

    label: str
    key: str
    product: str


class Installed(NamedTuple):
    """What an installation did: the key's last group, its product, and the unused key that it replaced, or empty."""

    label: str
    product: str
    replaced: str


class Activated(NamedTuple):
    """What an activation or extension came to: the products, and until when the delegation signs.

    Attributes:
        was: until when the one signed that was held before; None if there was none, or it is the same.
    """

    products: tuple[str, ...]
    until: int
    activation: str
    was: int | None = None

    def warning(self) -> str:
        """What to know of one that ends before the one that was held; empty for nothing."""
        if self.was is None or self.until >= self.was:
            return ""
        ends = f"it ends {when(self.until)}, before the one that was held, {when(self.was)}"
        return f"{ends}; by file it would last longer: --request-file, then --response-file"


class Line(Protocol):
    """A connection to an authority, as `calls.Caller` is one."""

    def __enter__(self) -> Self:
        """Use as a context."""

    def __exit__(self, *_: object) -> None:
        """Close it."""

    def get(self, path: str, /) -> Answer:
        """GET `path`."""

    def post(self, path: str, body: dict[str, Any], /) -> Answer:
        """POST `body` as JSON."""


class Activating:
    """The host's side of its activation, one use case a method."""

    def __init__(
        self,
        opened: Opened,
        call: Callable[[str, Sequence[str]], Line] = Caller,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Activate the host that is `opened`; reach the authority by `call`."""
        self._opened = opened
        self._folder = opened.folder
        self._call = call
        self._randomness = randomness

    # --- the key ------------------------------------------------------------------------------------------

    def label(self) -> Label | None:
        """The key that is or was installed."""
        try:
            members = json.loads((self._folder / _LABEL).read_bytes())
            return Label(str(members["label"]), str(members["key"]), str(members["product"]))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise not_readable(self._folder / _LABEL, error) from None
        except (ValueError, KeyError, TypeError):
            raise BrokenData(f"{self._folder / _LABEL} is damaged; install the key again.") from None

    def install_key(self, text: str, product: str | None) -> Installed:
        """Install a KMS host key; nothing is sent, and of the key only its key pair is stored.

        Raises:
            Refused: `key-mistyped`, `key-wrong-kind`, `product-unknown`, or the product is not clear.
        """
        key = keys.read(text)
        if isinstance(key, Refusal):
            raise Refused(key)
        if key.kind != "kms-host":
            kind = {"mak": "MAK", "retail": "retail key"}[key.kind]
            raise Refused(
                Refusal(
                    "key-wrong-kind",
                    f"This is a {kind}; it belongs on a machine: `volact client install-key`.",
                )
            )
        name = self._product(product)
        with self._alone():
            signer = Signer(key.private_key(self._opened.publisher.pub))
            before = self._unused()
            write_durably(self._folder / "keys" / _KEY, signer.pem(), PRIVATE)
            found = Label(key.label, signer.kid, name)
            self._write(_LABEL, found._asdict())
        return Installed(found.label, name, before.label if before and before.key != found.key else "")

    def _unused(self) -> Label | None:
        """The key that waits for its activation; None also if its label is damaged."""
        try:
            return self.label() if (self._folder / "keys" / _KEY).exists() else None
        except BrokenData:
            return None

    def _product(self, product: str | None) -> str:
        known = sorted(self._opened.products())
        if product is not None:
            if not ids.is_product_id(product):
                raise UsageError(f"{product[:80]!r} is no product id.")
            if known and product not in known:
                raise Refused(Refusal("product-unknown", f"{product} is not known here: {', '.join(known)}."))
            return product
        if len(known) > 1:
            raise Refused(Refusal("product-ambiguous", f"Known here: {', '.join(known)}."))
        if not known:
            raise UsageError("The host knows no product yet.", "Name the key's product with --product.")
        return known[0]

    # --- asking -------------------------------------------------------------------------------------------

    def online(self, op: str, authority: str | None, *, shorten: bool = False) -> Activated:
        """Activate (`host`) or extend (`extend`) at the authority: at its address in the product file, or the given.

        Raises:
            UsageError: if no address is known, or an extension would end before what is held and not `shorten`.
            Refused: the authority's refusal, or one of this host's own.
            Unreachable: if nobody answers, or somebody else.
            DocumentRefused: if the answer does not hold.
        """
        with self._alone():
            self._check_can(op)
            url, pins = self._address(op, authority)
            if op == EXTEND and not shorten:
                self._check_not_shorter()
            with self._call(url, pins) as caller:
                roots = self._opened.roots() or self._fetch_root(caller)
                request = self._pending(op, roots.lab)
                answer = caller.post("/v1/requests", request)
            body = _answer(answer.status, answer.body)
            return self._take_up(body, roots)

    def _address(self, op: str, authority: str | None) -> tuple[str, Sequence[str]]:
        products = self._opened.products()
        named = products.get(self._product_of(op)) or next(iter(products.values()), None)
        url = authority or (named.document["url"] if named else "")
        if not url:
            raise UsageError("No authority's address is known here.", "Give it with --authority URL.")
        return url, named.document["tls"] if named else ()

    def _product_of(self, op: str) -> str:
        label = self.label()
        if op == EXTEND:
            held = self._held()
            if held and label is None:
                return str(held[-1]["prd"][0])
        if label is None:
            raise Refused(Refusal("no-key-installed", "Install it: `volact kmshost install-key KEY`."))
        return label.product

    def _fetch_root(self, caller: Line) -> Roots:
        answer = caller.get("/v1/root")
        body = _answer(answer.status, answer.body)
        refusal = problem_of(body)
        if refusal is not None:
            raise Refused(refusal)
        later = body.get("roots")
        roots = trust.open_roots(
            body.get("root"), self._opened.publisher.pub, later if isinstance(later, list) else ()
        )
        with self._opened.store.writing() as tx:
            setup.learn(tx, roots, [])
        return roots

    def write_request(self, op: str) -> dict[str, Any]:
        """The request for a medium.

        Raises:
            Refused: as `online`.
            UsageError: if root document 1 is not known yet, which says whether the publisher is a laboratory.
        """
        with self._alone():
            self._check_can(op)
            roots = self._opened.roots()
            if roots is None:
                raise UsageError(
                    "The publisher's root document is not known here.",
                    "Set the host up with a product file: `volact kmshost init --root ROOT FILE`.",
                )
            return self._pending(op, roots.lab)

    def apply(self, data: bytes) -> Activated:
        """Put an answer that came by file into force.

        Raises:
            Refused: `other-machine`; the refusal itself, if the file holds one.
            DocumentRefused: if it does not hold, or is older than the delegation that is held.
        """
        with self._alone():
            body = _read(data)
            refusal = problem_of(body)
            if refusal is not None:
                raise Refused(refusal)
            _check_answer(body)
            return self._take_up(body, self._opened.roots())

    def _check_can(self, op: str) -> None:
        held = self._held()
        if op == EXTEND:
            if not held:
                raise Refused(Refusal("host-not-activated"))
            return
        label = self.label()
        if label is None or not (self._folder / "keys" / _KEY).exists():
            dropped = f"The key {label.label} was dropped after its activation. " if label else ""
            further = "; `volact kmshost extend` needs no key" if held else ""
            raise Refused(
                Refusal(
                    "no-key-installed", f"{dropped}Install one: `volact kmshost install-key KEY`{further}."
                )
            )

    def _check_not_shorter(self) -> None:
        end, now = self._held()[-1]["exp"], self._opened.clock.now()
        if end <= now + HOST_DELEGATION_ONLINE:
            return
        online, days = when(now + HOST_DELEGATION_ONLINE), HOST_DELEGATION_ONLINE // DAY
        raise UsageError(
            f"The delegation that is held lasts until {when(end)}; online it would end {online}, which is before.",
            f"Extend it by --request-file and --response-file, or online {days} days before its end;"
            " with --shorten it is asked for now, for what it brings besides.",
        )

    def _held(self) -> list[Document]:
        """The host's delegations, the newest last."""
        keyring_rows: list[Document] = []
        with self._opened.store.reading() as tx:
            roots = setup.roots_of(sql.publisher(tx))
            rows = sql.delegations(tx, self._opened.signer.kid)
        if roots is not None:
            keyring_rows = [trust.verify(row.bundle, "delegation", roots).document for row in rows]
        return sorted(keyring_rows, key=lambda one: (one.iat, one["exp"]))

    # --- the request --------------------------------------------------------------------------------------

    def _pending(self, op: str, lab: bool) -> dict[str, Any]:
        """The request that waits for its answer, or a new one, stored."""
        held = self._held()
        ref = held[-1].jti if op == EXTEND else None
        label = self.label()
        key = label.key if label else ""
        try:
            bundle = jws.read_json((self._folder / _PENDING).read_bytes())
            claims = trust.open_self_keyed(bundle, "request").document.claims
            product = label.product if label else ""
            wanted = {"iss": self._opened.signer.kid, "op": op, "key": key, "prd": product}
            if all(claims[name] == value for name, value in wanted.items()) and claims.get("ref") == ref:
                return bundle
        except (FileNotFoundError, DocumentRefused):
            pass
        except OSError as error:
            raise not_readable(self._folder / _PENDING, error) from None
        bundle = self._request(op, ref, lab=lab)
        self._write(_PENDING, bundle)
        return bundle

    def _request(self, op: str, ref: str | None, *, lab: bool) -> dict[str, Any]:
        opened, label, now = self._opened, self.label(), self._opened.clock.now()
        if label is None:
            raise Refused(Refusal("no-key-installed", "Install it: `volact kmshost install-key KEY`."))
        pub, me = opened.publisher.pub, opened.signer
        common = {"pub": pub, "lab": lab, "iat": now, "aud": pub}
        parts = facts_for(opened.environ, lab=lab).values
        claims = {
            **common,
            "jti": self._new_id(),
            "sub": me.kid,
            "op": op,
            "prd": label.product,
            "key": label.key,
            "fp": machine.fingerprint(pub, label.product, parts),
        }
        if op == EXTEND:
            request = me.bundle("request", {**claims, "ref": ref})
            return {**request, "usage": self._usage({**common, "sub": me.kid, "ref": ref}, now)}
        request = me.bundle("request", claims)
        digest = ids.digest(str(request["token"]).rpartition(".")[0].encode("ascii"))
        holder = signing.load(self._folder / "keys" / _KEY)
        proof = holder.sign(
            "key-proof",
            {**common, "jti": self._new_id(), "sub": me.kid, "op": op, "prd": label.product, "dig": digest},
        )
        return {**request, "proof": proof}

    def _usage(self, common: Mapping[str, Any], now: int) -> dict[str, object]:
        """The signed statement of what was counted under the delegation (K21): products, nothing of machines."""
        since = self._held()[-1].iat
        with self._opened.store.reading() as tx:
            peaks = sql.peaks(tx, now)
        claims = {**common, "jti": self._new_id(), "from": min(since, now), "to": now, "peaks": peaks}
        return self._opened.signer.bundle("usage", claims)

    def _new_id(self) -> str:
        return ids.b64u(self._randomness(_ID_BYTES))

    # --- the answer ---------------------------------------------------------------------------------------

    def _take_up(self, body: dict[str, Any], known: Roots | None) -> Activated:
        refusal = problem_of(body)
        if refusal is not None:
            if refusal.code in _SPENT:
                self._remove(_PENDING)
            raise Refused(refusal)
        products = _products(body)
        pub = self._opened.publisher.pub
        if known is None:
            first = next((one["root"] for one in products if "root" in one), None)
            known = trust.open_roots(first, pub)
        granted = trust.take_up(trust.verify(body, "delegation", known))
        document = granted.document
        if document["sub"] != self._opened.signer.kid:
            raise Refused(Refusal("other-machine", "The answer is another KMS host's."))
        opened = [(setup.open_product(one, pub, granted.roots), one) for one in products]
        held = self._held()
        self._store(granted, opened)
        self._remove(_PENDING)
        self._forget_key(document)
        was = held[-1]["exp"] if held and held[-1].jti != document.jti else None
        return Activated(tuple(document["prd"]), document["exp"], document["act"], was)

    def _store(self, granted: Granted, products: Sequence[tuple[Granted, dict[str, Any]]]) -> None:
        """Everything of an answer in one transaction."""
        document, now = granted.document, self._opened.clock.now()
        newer = max((one.iat for one in self._held() if one.jti != document.jti), default=0)
        if document.iat < newer:
            raise DocumentRefused("delegation: older than the one that is held")
        with self._opened.store.writing() as tx:
            setup.learn(tx, granted.roots, [(one.document, bundle) for one, bundle in products])
            missing = set(document["prd"]) - {one.prd for one in sql.products(tx)}
            if missing:
                raise DocumentRefused(f"the answer lacks the product {min(missing)}")
            held = sql.delegations(tx, self._opened.signer.kid)
            if all(row.jti != document.jti for row in held):
                sql.add_delegation(
                    tx,
                    sql.Delegation(
                        document.jti, document["sub"], document.iat, document["exp"], granted.bundle(), now
                    ),
                )
                # A usage statement speaks of the time under one delegation (K21).
                sql.clear_peaks(tx)

    def _forget_key(self, document: Document) -> None:
        """Drop the key's private half: an extension needs none."""
        label = self.label()
        if label is not None and label.product in document["prd"]:
            path = self._folder / "keys" / _KEY
            path.unlink(missing_ok=True)
            flush_folder(path.parent)

    # --- files --------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No second command does the same at once.

        Raises:
            Refused: `in-use`.
        """
        with (self._folder / "activating.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Refused(Refusal("in-use")) from None
            yield

    def _write(self, name: str, members: Mapping[str, Any]) -> None:
        write_durably(self._folder / name, jws.write_json(dict(members)), PRIVATE)

    def _remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)
        flush_folder(self._folder)


def _check_answer(body: dict[str, Any]) -> None:
    """Name a file of another sort.

    Raises:
        DocumentRefused: if it is one.
    """
    if "jwk" in body and "chain" not in body:
        raise DocumentRefused(
            "the file holds a request and no answer; the publisher makes the answer: `volact authority answer`"
        )
    if "root" in body and "products" not in body:
        raise DocumentRefused("the file holds a product and no answer; it is for `volact kmshost init`")


def _products(body: dict[str, Any]) -> list[dict[str, Any]]:
    products = body.get("products", [])
    if not isinstance(products, list) or not all(isinstance(one, dict) for one in products):
        raise DocumentRefused("the answer's products are no bundles")
    return products


def _read(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_ANSWER:
        raise DocumentRefused(f"the answer is larger than {MAX_ANSWER} bytes")
    return jws.read_json(data)


def _answer(status: int, data: bytes) -> dict[str, Any]:
    """The body of an authority's answer.

    Raises:
        Refused: the authority's refusal.
        Unreachable: if it is none.
    """
    try:
        body = _read(data)
    except VolactError as error:
        raise Unreachable(Refusal("answer-nonsense", f"Status {status}: {error.refusal.detail}.")) from None
    if status != _OK and problem_of(body) is None:
        raise Unreachable(Refusal("answer-nonsense", f"Status {status}, and no problem document."))
    return body


def file_content(bundle: Mapping[str, Any]) -> bytes:
    """A request as it stands in a file."""
    return jws.write_json(dict(bundle)) + b"\n"
