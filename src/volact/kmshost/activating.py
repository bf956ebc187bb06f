"""How a host gets the right to issue: its key, its activation, the extension of its delegation (K9, K18, K21).

- Of the key only the derived private half is kept, and only until the host is activated; then its label alone. A key
  that waits is one thing, the key of the activation another (`hostkeys`): `activate` asks in the name of the first,
  `extend` in that of the second, and only an activation makes the first the second.
- A request is stored before it is sent or written to a file; until it is answered it is sent again byte for byte,
  so that a lost answer costs none of the ten activations.
- An answer is verified to the pinned root, with every product that it brings, before a byte is stored; then it is
  stored in one transaction.
- An extension never shortens what is held unless that is asked for: online the authority gives less than by file.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from volact.calls import Caller, problem_of
from volact.commands import not_readable, when
from volact.facts import facts_for
from volact.files import PRIVATE, flush_folder, write_durably
from volact.kmshost import answers, setup, surveys
from volact.kmshost import store as sql
from volact.kmshost.hostkeys import HostKeys, Label, label_of
from volact.protocol import ids, jws, keys, machine, trust
from volact.protocol.policy import DAY, HOST_DELEGATION_ONLINE
from volact.protocol.problems import (
    BrokenData,
    DocumentRefused,
    Refusal,
    Refused,
    UsageError,
)
from volact.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from volact.calls import Answer
    from volact.kmshost.setup import Opened
    from volact.protocol.documents import Document
    from volact.protocol.trust import Granted, Roots

HOST, EXTEND = "host", "extend"
_ID_BYTES, _PENDING = 16, "pending.json"
_SPENT = ("request-id-reused", "machine-blocked", "document-refused", "delegation-unknown")
"""Refusals of this very request for ever: the next try needs a new one."""


class _OlderError(DocumentRefused):
    """An answer that was given before the delegation that is held by now."""


class _Asked(NamedTuple):
    """The request that waits for its answer, as it is sent, and the key in whose name it asks."""

    request: dict[str, Any]
    claims: Mapping[str, Any]
    label: Label


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

    def get(self, path: str, headers: Mapping[str, str] = ..., /) -> Answer:
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
        self._keys = HostKeys(opened.folder)
        self._call = call
        self._randomness = randomness

    # --- the key ------------------------------------------------------------------------------------------

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
            found = Label(key.label, signer.kid, name)
            self._keys.install(signer, found)
        return Installed(found.label, name, before.label if before and before.key != found.key else "")

    def _unused(self) -> Label | None:
        """The key that waits for its activation; None also if its label is damaged."""
        try:
            return self._keys.waiting()
        except BrokenData:
            return None

    def _product(self, product: str | None) -> str:
        known = sorted(self._opened.products())
        if product is not None:
            if not ids.is_product_id(product):
                raise UsageError(f"{product[:80]!r} is no product id.")
            if known and product not in known:
                detail = (
                    f"{product} is not known here: {', '.join(known)}; `volact kmshost product add FILE`."
                )
                raise Refused(Refusal("product-unknown", detail))
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
            label = self._label(op)
            url, pins = self._address(label, authority)
            if op == EXTEND and not shorten:
                self._check_not_shorter()
            with self._call(url, pins) as caller:
                roots = self._opened.roots() or self._fetch_root(caller)
                request = self._pending(op, label, lab=roots.lab)
                answer = caller.post("/v1/requests", request)
            body = answers.of_authority(answer.status, answer.body)
            try:
                return self._take_up(body, roots)
            except _OlderError:
                self._forget_request()  # its answer will be no other: the next try needs a new one
                raise

    def _address(self, label: Label, authority: str | None) -> tuple[str, Sequence[str]]:
        products = self._opened.products()
        named = products.get(label.product)
        if authority is None and not (
            named and named.document["url"]
        ):  # the publisher is one, whatever the product
            named = next((one for one in products.values() if one.document["url"]), named)
        named = named or next(iter(products.values()), None)
        url = authority or (named.document["url"] if named else "")
        if not url:
            raise UsageError("No authority's address is known here.", "Give it with --authority URL.")
        return url, named.document["tls"] if named else ()

    def _fetch_root(self, caller: Line) -> Roots:
        answer = caller.get("/v1/root")
        body = answers.of_authority(answer.status, answer.body)
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
        """The request for a medium, which says that it is one: whoever carries it, the answer holds 400 days.

        One that was made to be asked online is made anew for it.

        Raises:
            Refused: as `online`.
            UsageError: if root document 1 is not known yet, which says whether the publisher is a laboratory.
        """
        with self._alone():
            label = self._label(op)
            roots = self._opened.roots()
            if roots is None:
                raise UsageError(
                    "The publisher's root document is not known here.",
                    "Set the host up with a product file: `volact kmshost init --root ROOT FILE`.",
                )
            return self._pending(op, label, lab=roots.lab, file=True)

    def apply(self, data: bytes) -> Activated:
        """Put an answer that came by file into force.

        Raises:
            Refused: `other-machine`; the refusal itself, if the file holds one.
            DocumentRefused: if it does not hold, or is older than the delegation that is held.
        """
        with self._alone():
            body = answers.read(data)
            refusal = problem_of(body)
            if refusal is not None:
                raise Refused(refusal)
            answers.check_sort(body)
            return self._take_up(body, self._opened.roots())

    def _label(self, op: str) -> Label:
        """The key in whose name is asked: the one that waits, or for an extension that of the activation.

        Raises:
            Refused: `host-not-activated`, `no-key-installed`.
        """
        held = self._held()
        used = self._keys.activated(held[-1]["act"]) if held else None
        if op == EXTEND:
            if not held:
                raise Refused(Refusal("host-not-activated"))
            if used is None:
                detail = (
                    "The key of this host's activation is not known here; install a key and activate anew."
                )
                raise Refused(Refusal("no-key-installed", detail))
            return used
        waiting = self._keys.waiting()
        if waiting is None:
            dropped = f"The key {used.label} was dropped after its activation. " if used else ""
            further = "; `volact kmshost extend` needs no key" if held else ""
            detail = f"{dropped}Install one: `volact kmshost install-key KEY`{further}."
            raise Refused(Refusal("no-key-installed", detail))
        return waiting

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
        """The host's delegations, the newest last; one that was taken back can be extended, too."""
        keyring = self._opened.keyring()
        return keyring.held if keyring else []

    # --- the request --------------------------------------------------------------------------------------

    def _pending(self, op: str, label: Label, *, lab: bool, file: bool = False) -> dict[str, Any]:
        """The request that waits for its answer, or a new one, stored; one for a medium may be sent online too."""
        ref = self._held()[-1].jti if op == EXTEND else None
        wanted = {
            "iss": self._opened.signer.kid,
            "op": op,
            "key": label.key,
            "prd": label.product,
            "ref": ref,
            **_on_a_medium(file),
        }
        asked = self._asked()
        if asked and all(asked.claims.get(name) == value for name, value in wanted.items()):
            return asked.request
        bundle = self._request(op, label, ref, lab=lab, file=file)
        members = {"request": bundle, "label": label._asdict()}
        write_durably(self._folder / _PENDING, jws.write_json(members), PRIVATE)
        return bundle

    def _asked(self) -> _Asked | None:
        """The request that waits for its answer; None if none does, or what is kept of it is damaged."""
        try:
            members = jws.read_json((self._folder / _PENDING).read_bytes())
            request = trust.open_self_keyed(members.get("request"), "request")
            return _Asked(members["request"], request.document.claims, label_of(members.get("label")))
        except (FileNotFoundError, DocumentRefused, BrokenData):
            return None
        except OSError as error:
            raise not_readable(self._folder / _PENDING, error) from None

    def _request(self, op: str, label: Label, ref: str | None, *, lab: bool, file: bool) -> dict[str, Any]:
        opened, now = self._opened, self._opened.clock.now()
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
            **_on_a_medium(file),
        }
        if op == EXTEND:
            request = me.bundle("request", {**claims, "ref": ref})
            return {**request, "usage": self._usage({**common, "sub": me.kid, "ref": ref}, now)}
        request = me.bundle("request", claims)
        digest = ids.digest(str(request["token"]).rpartition(".")[0].encode("ascii"))
        proof = self._keys.private_half().sign(
            "key-proof",
            {**common, "jti": self._new_id(), "sub": me.kid, "op": op, "prd": label.product, "dig": digest},
        )
        return {**request, "proof": proof}

    def _usage(self, common: Mapping[str, Any], now: int) -> dict[str, object]:
        """The signed statement of what was counted under the delegation (K21): products, nothing of machines."""
        since = self._held()[-1].iat
        with self._opened.store.reading() as tx:
            counts = {"peaks": sql.peaks(tx, now), "sources": surveys.by_source(tx, now)}
        claims = {**common, "jti": self._new_id(), "from": min(since, now), "to": now, **counts}
        return self._opened.signer.bundle("usage", claims)

    def _new_id(self) -> str:
        return ids.b64u(self._randomness(_ID_BYTES))

    # --- the answer ---------------------------------------------------------------------------------------

    def _take_up(self, body: dict[str, Any], known: Roots | None) -> Activated:
        refusal = problem_of(body)
        if refusal is not None:
            if refusal.code in _SPENT:
                self._forget_request()
            raise Refused(refusal)
        products = answers.products(body)
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
        self._settle(document)
        was = held[-1]["exp"] if held and held[-1].jti != document.jti else None
        return Activated(tuple(document["prd"]), document["exp"], document["act"], was)

    def _store(self, granted: Granted, products: Sequence[tuple[Granted, dict[str, Any]]]) -> None:
        """Everything of an answer in one transaction."""
        document, now = granted.document, self._opened.clock.now()
        newer = max((one.iat for one in self._held() if one.jti != document.jti), default=0)
        if document.iat < newer:
            raise _OlderError("delegation: older than the one that is held")
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

    def _settle(self, document: Document) -> None:
        """Let key and request follow an answer that is stored.

        An answer by file may be to an earlier request than the one that waits: an activation's id that is known here
        is of the key that it was of then; a new one is of the key that was asked with.
        """
        act, asked, waiting = document["act"], self._asked(), self._keys.waiting()
        known = self._keys.activated(act)
        asked_to_activate = asked.label if asked and asked.claims["op"] == HOST else None
        fitting = [one for one in (asked_to_activate, waiting) if one and one.product in document["prd"]]
        label = known or next(iter(fitting), None)
        if label is None:
            return
        if known is None:
            self._keys.note_activated(act, label)
        if waiting and waiting.key == label.key and (known is None or asked_to_activate == label):
            self._keys.drop_waiting()
        if asked and asked.label.key == label.key:
            self._forget_request()

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

    def _forget_request(self) -> None:
        (self._folder / _PENDING).unlink(missing_ok=True)
        flush_folder(self._folder)


def _on_a_medium(file: bool) -> dict[str, bool]:
    """The member by which a request says that it travels by file (ADR 4)."""
    return {"file": True} if file else {}


def file_content(bundle: Mapping[str, Any]) -> bytes:
    """A request as it stands in a file."""
    return jws.write_json(dict(bundle)) + b"\n"
