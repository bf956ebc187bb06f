"""Product keys: adding, showing, removing, what is left of them, which to take (V4, M3, M8).

- A key is sealed before it is written, and opened only to prove a question or to be handed to a machine. Nothing else
  that leaves here, no answer, log or error, has more of it than its label.
- A key of a KMS host is refused; a mistyped one, too, before anything is kept. Whether the publisher knows the key is
  found by asking it: `refresh` proves each key with a signature, and believes a count only if it is signed for it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import documents, ids, jws, policy, trust
from volact.protocol import keys as product_keys
from volact.protocol.problems import BrokenData, DocumentRefused, Refusal, Refused, Unreachable, UsageError
from volact.signing import Signer
from volact.vamt import actionrecords, cil, keyrecords, recommending, selecting
from volact.vamt import store as sql
from volact.vamt.acquiring import MOST_AT_ONCE, Acquiring, answers
from volact.vamt.keyfiles import check_kind
from volact.vamt.publishers import roots_of
from volact.vamt.recommending import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any

    from sqlalchemy import Connection

    from volact.protocol.documents import Document
    from volact.protocol.keys import ProductKey
    from volact.protocol.trust import Roots
    from volact.vamt.acquiring import Authority
    from volact.vamt.acting import Office
    from volact.vamt.keyfiles import Wanted
    from volact.vamt.keyrecords import Key
    from volact.vamt.people import Person
    from volact.vamt.recommending import Plan
    from volact.vamt.sealing import Sealer
    from volact.vamt.selecting import Selection

_ID_BYTES = 16


class Added(NamedTuple):
    """A key that is kept now; `is_new` if it was not before."""

    label: str
    thumbprint: str
    kind: str
    product: str
    is_new: bool


class Refreshed(NamedTuple):
    """A key as it is known after asking, and why nothing was learned; None if something was."""

    key: Key
    refusal: Refusal | None


class Recommended(NamedTuple):
    """The keys for one product of a selection.

    Attributes:
        pub, product: whose and which.
        selected: machines of the selection that have it.
        need: those of them without a permanent activation.
        plan: which keys, for how many each.
    """

    pub: str
    product: str
    selected: int
    need: int
    plan: Plan


class Keys:
    """The use cases of product keys."""

    def __init__(self, office: Office, random_bytes: Callable[[int], bytes]) -> None:
        """Work in `office`; ids of questions are made of `random_bytes`."""
        self._office = office
        self._random_bytes = random_bytes

    # --- holding --------------------------------------------------------------------------------------------------

    def add(
        self,
        person: Person,
        wanted: Sequence[Wanted],
        sealer: Sealer,
        *,
        publisher: str = "",
        notes: str = "",
    ) -> list[Added]:
        """Keep keys, sealed: all or none; one that is kept already is for the product that is said now.

        Raises:
            Refused: `key-wrong-kind`, `product-unknown`, `publisher-unknown`.
            UsageError: if several publishers have such a product, and none was named.
        """
        what = {
            "add": [one.key.label for one in wanted[:_MOST_NAMED]],
            "products": sorted({one.product for one in wanted}),
        }
        with self._office.acting(person, "change-keys", what) as deed, self._office.store.writing() as tx:
            sql.lock(tx)
            pubs = {product: publisher_of(tx, product, publisher) for product in what["products"]}
            found = self._put(tx, person, [(one, pubs[one.product]) for one in wanted], sealer, notes)
            deed.rows = len(found)
        return found

    def _put(
        self,
        tx: Connection,
        person: Person,
        wanted: Sequence[tuple[Wanted, str]],
        sealer: Sealer,
        notes: str,
    ) -> list[Added]:
        """Keep keys, each for a product of its publisher."""
        now = self._office.clock.now()
        named_so = [(one, pub, Signer(one.key.private_key(pub)).kid) for one, pub in wanted]
        there = {
            (one.pub, one.thumbprint)
            for one in keyrecords.keys(tx, [thumbprint for *_, thumbprint in named_so])
        }
        new: dict[tuple[str, str], Key] = {}
        found = []
        for (key, product), pub, thumbprint in named_so:
            refusal = check_kind(key)
            if refusal:
                raise Refused(refusal)
            same = pub, thumbprint
            found.append(Added(key.label, thumbprint, key.kind, product, same not in there | new.keys()))
            if same in there:
                keyrecords.change(tx, pub, thumbprint, product, notes)
            else:
                sealed = sealer.seal(keyrecords.record(pub, thumbprint), key.symbols.encode("ascii"))
                new[same] = keyrecords.Key(
                    0, pub, product, thumbprint, key.label, key.kind, sealed, person.name, now, notes
                )
        keyrecords.add(tx, new.values())
        return found

    def show(self, person: Person, name: str) -> Key:
        """The key of that label or thumbprint.

        Raises:
            Refused: `key-not-held`.
            UsageError: if that is neither, or several keys have the label.
        """
        self._office.look(person)
        with self._office.store.reading() as tx:
            return named(tx, [name])[0]

    def remove(self, person: Person, names: Sequence[str]) -> int:
        """Forget keys by label or thumbprint; how many.

        Raises:
            Refused: `key-not-held`; none was removed then.
            UsageError: as `show`.
        """
        check_names(names)
        with self._office.acting(person, "change-keys", {"remove": list(names)}) as deed:
            with self._office.store.writing() as tx:
                deed.rows = keyrecords.remove(tx, [one.number for one in named(tx, names)])
            return deed.rows

    # --- asking ---------------------------------------------------------------------------------------------------

    def refresh(
        self,
        person: Person,
        names: Sequence[str],
        unlock: Callable[[], Sealer],
        connect: Callable[[str, Sequence[str]], Authority],
        tell: Callable[[int, int], None] | None = None,
    ) -> list[Refreshed]:
        """Ask how many activations of keys, by default of all, are bought and left (M3): each with its own reason.

        Their publishers' status lists are fetched besides, which say what keys are blocked.

        Raises:
            Refused: `key-not-held`, and what `unlock` raises.
            UsageError: as `show`.
        """
        check_names(names)
        with self._office.acting(person, "refresh-keys", {"keys": list(names) or "all"}) as deed:
            with self._office.store.reading() as tx:
                wanted = named(tx, names) if names else keyrecords.keys(tx)
                publishers = {one.pub: one for one in sql.publishers(tx)}
            if not wanted:
                deed.rows = 0
                return []
            sealer = unlock()
            refusals: dict[int, Refusal | None] = {}
            for pub in dict.fromkeys(one.pub for one in wanted):
                asked = [one for one in wanted if one.pub == pub]
                for some in self._ask_publisher(publishers[pub], asked, sealer, connect):
                    refusals.update(some)
                    if tell:
                        tell(len(refusals), len(wanted))
            deed.rows = sum(one is None for one in refusals.values())
            deed.detail = (
                "" if deed.rows == len(wanted) else f"{len(wanted) - deed.rows} keys: nothing learned"
            )
            with self._office.store.reading() as tx:
                known = {one.number: one for one in keyrecords.keys(tx, [one.thumbprint for one in wanted])}
        return [Refreshed(known.get(one.number, one), refusals[one.number]) for one in wanted]

    def _ask_publisher(
        self,
        publisher: sql.Publisher,
        wanted: Sequence[Key],
        sealer: Sealer,
        connect: Callable[[str, Sequence[str]], Authority],
    ) -> Iterable[Mapping[int, Refusal | None]]:
        """Why nothing was learned of keys, by number, batch by batch as it is known."""
        left = list(wanted)
        if not publisher.url:
            nowhere = Refusal(
                "authority-unreachable", "No product of the publisher says where its authority is."
            )
            yield {one.number: nowhere for one in left}
            return
        try:
            roots = roots_of(publisher)
            with connect(publisher.url, publisher.tls) as authority:
                while left:
                    batch, left = left[:MOST_AT_ONCE], left[MOST_AT_ONCE:]
                    try:
                        yield self._ask(authority, batch, roots, sealer)
                    except (Refused, Unreachable):
                        left = batch + left
                        raise
                Acquiring(self._office).fetch_status(authority, roots)
        except (Refused, Unreachable) as error:
            yield {one.number: error.refusal for one in left}

    def _ask(
        self, authority: Authority, batch: Sequence[Key], roots: Roots, sealer: Sealer
    ) -> dict[int, Refusal | None]:
        outcomes: dict[int, Refusal | None] = {}
        proofs: list[tuple[Key, str, Document]] = []
        for one in batch:
            try:
                proofs.append((one, *self._proof(one, opened(one, sealer), roots)))
            except BrokenData as error:
                outcomes[one.number] = error.refusal
        said = (
            answers(
                authority.post("/v1/requests", {"requests": [{"proof": token} for _, token, _ in proofs]}),
                len(proofs),
            )
            if proofs
            else []
        )
        with self._office.store.writing() as tx:
            for (one, _, proof), answer in zip(proofs, said, strict=True):
                outcomes[one.number] = _kept(tx, one, proof, answer, roots)
        return outcomes

    def _proof(self, key: Key, product_key: ProductKey, roots: Roots) -> tuple[str, Document]:
        """The proof that asks for what remains of a key, as it travels and as it is compared with its answer."""
        signer = Signer(product_key.private_key(key.pub))
        now = self._office.clock.now()
        token = signer.sign(
            "key-proof",
            {
                "pub": key.pub,
                "lab": roots.lab,
                "iat": now,
                "jti": ids.b64u(self._random_bytes(_ID_BYTES)),
                "aud": key.pub,
                "op": "remaining",
                "prd": key.product,
                "exp": now + policy.REMAINING_PROOF,
            },
        )
        parts = jws.split(token)
        return token, documents.read("key-proof", parts.kid, parts.payload, token)

    # --- choosing -------------------------------------------------------------------------------------------------

    def recommend(self, person: Person, selection: Selection, product: str = "") -> list[Recommended]:
        """Which keys a selection needs, product by product; `product` alone if it is named. Nothing is done.

        Raises:
            Refused: `selection-empty`, and as `selecting.select`.
        """
        self._office.look(person)
        with self._office.store.reading() as tx:
            targets = selecting.select(tx, selection, self._office.clock.now())
            known = {one.pub for one in sql.publishers(tx)}
            there = [one for one in targets if one.pub in known and product in ("", one.prd)]
            activated = keyrecords.activated(tx, {one.number for one in there})
            needy = {one.number for one in there if (one.number, one.pub, one.prd) not in activated}
            candidates = left(tx, keyrecords.keys(tx), needy)
        selected = Counter((one.pub, one.prd) for one in there)
        done = Counter((one.pub, one.prd) for one in there if (one.number, one.pub, one.prd) in activated)
        return [
            Recommended(pub, prd, count, need, recommending.plan(candidates, pub, prd, need))
            for (pub, prd), count in sorted(selected.items())
            for need in [count - done[pub, prd]]
        ]

    def list(self, person: Person) -> list[Key]:
        """The keys, by label."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            return keyrecords.keys(tx)


_MOST_NAMED = 100


def publisher_of(tx: Connection, product: str, publisher: str = "") -> str:
    """The publisher of a product; `publisher` is its id or its name here.

    Raises:
        Refused: `product-unknown`, `publisher-unknown`.
        UsageError: if several have it.
    """
    named_so = [one.pub for one in sql.publishers(tx) if publisher in ("", one.pub, one.name)]
    if not named_so:
        raise Refused(
            Refusal("publisher-unknown", f"{publisher[:80]!r}." if publisher else "None is known yet.")
        )
    found = [one.pub for one in sql.products(tx) if one.prd == product and one.pub in named_so]
    if not found:
        file = "its product file was not added: volact vamt publisher add FILE --root ROOT"
        raise Refused(Refusal("product-unknown", f"{product[:80]!r}: {file}."))
    if len(found) > 1:
        raise UsageError(f"Several publishers have a product {product[:80]!r}.", "Say which: --publisher ID.")
    return found[0]


def check_names(names: Sequence[str]) -> None:
    """See to it that keys are named by labels or thumbprints, so that no key comes into the log.

    Raises:
        UsageError: without what was said.
    """
    for one in names:
        is_label = len(one) == product_keys.GROUP and {*one.upper()} <= {*product_keys.ALPHABET}
        if not (is_label and one[0].upper() in product_keys.KINDS) and not ids.is_thumbprint(one):
            raise UsageError(
                "A key is named by its label, the last group, or by its thumbprint.",
                "`volact vamt key list` shows the labels, with --json the thumbprints.",
            )


def named(tx: Connection, names: Sequence[str]) -> list[Key]:
    """The keys of these labels or thumbprints, each once.

    Raises:
        Refused: `key-not-held`.
        UsageError: if a name is neither, or several keys have a label.
    """
    check_names(names)
    held, found = keyrecords.keys(tx, {*names, *map(str.upper, names)}), dict[int, "Key"]()
    for name in names:
        fitting = [one for one in held if one.label == name.upper() or one.thumbprint == name]
        if not fitting:
            raise Refused(Refusal("key-not-held", f"{name}."))
        if len(fitting) > 1:
            raise UsageError(
                f"Several keys have the label {name}.",
                "Give the thumbprint, which `volact vamt key list --json` shows.",
            )
        found[fitting[0].number] = fitting[0]
    return list(found.values())


def opened(key: Key, sealer: Sealer) -> ProductKey:
    """The key itself: for proving a question, or for a machine's standard input, and for nothing else (M8).

    Raises:
        BrokenData: if it is damaged, or was sealed with another key.
    """
    text = sealer.open(key.record, key.sealed).decode("ascii")
    found = product_keys.read(text)
    if isinstance(found, Refusal):
        raise BrokenData(f"What is sealed as key {key.label} is no key.")
    return found


def candidate(key: Key) -> Candidate:
    """A key as it is chosen by."""
    return Candidate(
        key.thumbprint, key.label, key.kind, key.pub, key.product, key.remaining, bool(key.blocked)
    )


def left(tx: Connection, keys: Sequence[Key], machines: Collection[int]) -> list[Candidate]:
    """Keys as they are chosen by for `machines`: what others have of them, or are to get, is not to be had."""
    taken = actionrecords.spoken_for(tx, keys, machines)
    return [
        one._replace(
            remaining=None if one.remaining is None else max(0, one.remaining - taken[one.thumbprint])
        )
        for one in map(candidate, keys)
    ]


def _kept(tx: Connection, key: Key, proof: Document, answer: dict[str, Any], roots: Roots) -> Refusal | None:
    """Keep what was said of a key, if it holds; why not, if not."""
    if "code" in answer and "token" not in answer:
        refusal = Refusal.received(
            str(answer["code"]), str(answer.get("detail", "")), str(answer.get("title", ""))
        )
        if refusal.code == "key-blocked":
            keyrecords.set_blocked(tx, key.number)
        return refusal
    try:
        granted = trust.take_up(trust.verify(answer, "statement", roots))
        cil.check_answer(granted.document, proof)
        claims = granted.document.claims
    except DocumentRefused as error:
        return Refusal("answer-nonsense", error.refusal.detail)
    if claims["bought"] != claims["activated"] + claims["remaining"]:
        return Refusal("answer-nonsense", "statement: the counts do not add up")
    keyrecords.stated(tx, key.number, claims, granted.document.iat, granted.bundle())
    return None
