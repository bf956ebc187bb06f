"""The licensed machine, one use case a method (K5 to K7, K22, M2, M4, M5, M8, M9, rule E).

Each method is the store's only writer while it works, and leaves files that are whole if it is interrupted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from volact.client import address, contact, folder, kms, planning, returning
from volact.client.installation import Installation, in_force
from volact.protocol import ids, jws, keys, matching, trust
from volact.protocol import policy as policies
from volact.protocol.problems import BrokenData, DocumentRefused, Refusal, Refused, UsageError, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from volact.client.installation import Surroundings
    from volact.client.lifecycle import Licence
    from volact.client.state import Record
    from volact.client.store import Label, Settings, Store
    from volact.protocol.trust import Granted

_T = TypeVar("_T")


class Installed(NamedTuple):
    """What `install` did: `kept` if the product was installed already in this or a newer version."""

    publisher: str
    product: str
    version: int
    kept: bool


class Activated(NamedTuple):
    """What `activate` came to.

    Attributes:
        standing: the state.
        list_failure: what went wrong with the status list afterwards, if anything.
        ahead: how far this machine's clock lies ahead of signed time, seconds; 0 if by no more than an hour.
    """

    publisher: str
    product: str
    standing: Licence
    list_failure: Refusal | None
    ahead: int = 0


class Question(NamedTuple):
    """A request for a medium: its IID, and the bundle as it is written to a file."""

    publisher: str
    product: str
    iid: str
    bundle: dict[str, Any]


class GivenBack(NamedTuple):
    """What a return came to: the activation, the state, and the receipt, or the return that was written instead."""

    publisher: str
    product: str
    activation: str
    standing: Licence
    bundle: dict[str, Any]


class ListTaken(NamedTuple):
    """What a status list that was brought here came to.

    Attributes:
        publisher: whose it is.
        version: its version.
        taken: whether it counts; one that is older than the last does not.
        standings: the state of each product of the publisher, by its id.
    """

    publisher: str
    version: int
    taken: bool
    standings: dict[str, Licence]


class Client:
    """This machine, for all publishers whose products are installed on it."""

    def __init__(self, store: Store, around: Surroundings, system: Store | None = None) -> None:
        """Work in `store`; reach clocks, facts and servers by `around`.

        `system` is the system's store, where this user only reads it: what stands there is not missing.

        `rests` is the service's: (publisher, product) -> what it lets rest. A command by hand tries at once.
        """
        self.store = store
        self.around = around
        self.rests: dict[tuple[str, str], planning.Rest] = {}
        self._system = system

    def open(self, pub: str) -> Installation:
        """A publisher on this machine, to write to; inside `store.writing()` only."""
        return Installation(self.store, pub, self.around)

    def install(self, data: bytes, root: str) -> Installed:
        """Install a product bundle under the root that the administrator names: a publisher id, or its document.

        Raises:
            Refused: ``root-mismatch`` if the bundle is another publisher's.
            DocumentRefused: if it does not hold; nothing was stored then.
        """
        pin = publisher_id(root)
        bundle = trust.read_bundle(data)
        if trust.open_self_keyed(bundle.get("root"), "root").document.kid != pin:
            raise Refused(Refusal("root-mismatch"))
        with self.store.writing():
            known = _or_none(lambda: folder.roots(self.store.home, pin)) or trust.open_roots(
                bundle["root"], pin
            )
            granted = trust.take_up(trust.verify(bundle, "product", known))
            document = granted.document
            policies.read(document["pol"], document["edition"])
            product, version = document["sub"], document["ver"]
            before = _or_none(lambda: folder.product(self.store.home, pin, product, known))
            kept = before is not None and before.document["ver"] >= version
            self.store.write_roots(granted.roots)
            if not kept:
                self.store.write_product(granted)
            here = self.open(pin)
            here.learn(granted)
            here.save()
        return Installed(pin, product, version, kept)

    def install_key(self, text: str, product: str | None = None) -> Label:
        """Install a MAK or retail key; nothing is sent, and of the key only its key pair is stored (M7, M8).

        Raises:
            Refused: ``key-mistyped``, ``key-wrong-kind``, or the product is not clear.
        """
        key = keys.read(text)
        if isinstance(key, Refusal):
            raise Refused(key)
        if key.kind == "kms-host":
            raise Refused(Refusal("key-wrong-kind", "This is a KMS host key; it belongs on a KMS host."))
        pub, name = self.select(product)
        with self.store.writing():
            here = self.open(pub)
            label = self.store.write_key(pub, name, key)
            record = here.record(name)._replace(key_removed=False, next_try=None, failed="", checkin=None)
            here.remember(name, record)
            here.save()
        return label

    def remove_key(self, product: str | None = None) -> tuple[str, str]:
        """Remove the key of a product: it is a KMS client again, Unlicensed until it has a lease (rule E, K22).

        Its confirmation is set aside. A lease that the key never replaced was not the key's, and stays in force.
        """
        pub, name = self.select(product)
        with self.store.writing():
            here = self.open(pub)
            if self.store.label(pub, name) is None:
                raise Refused(Refusal("no-key-installed"))
            leased = here.grant(name) is None and here.held(name) is not None
            record = here.record(name)._replace(key_removed=not leased, next_try=None, failed="")
            here.remember(name, record)
            here.save()
            self.store.set_grant_aside(pub, name)
            self.store.remove(pub, name, folder.PENDING, folder.RETURN, folder.KEY, folder.KEY_LABEL)
        return pub, name

    def activate(self, product: str | None = None) -> Activated:
        """Activate a product online: with its key, or by a KMS host, set by hand or found by DNS (K22, D3).

        A product that its key has activated just hears from the publisher (M5); a lease is renewed.

        Raises:
            Refused: the authority's or host's refusal, or this machine's own.
            Unreachable: if nobody answers, or somebody else.
        """
        pub, name = self.select(product)
        with self.store.writing():
            here = self.open(pub)
            return self.activate_in(here, name)

    def activate_in(self, here: Installation, product: str) -> Activated:
        """`activate`, in a publisher that is open already."""
        if here.way(product) == planning.HOST:
            self._ask(here, product, kms.renew)
            return Activated(here.pub, product, here.standing(product), None, here.clock_ahead)
        if not self._stands(here, product):
            self._ask(here, product, contact.activate)
        try:
            contact.fetch_status(here, product)
            failure = None
        except VolactError as error:
            here.save()
            failure = error.refusal
        return Activated(here.pub, product, here.standing(product), failure, here.clock_ahead)

    def _ask(self, here: Installation, product: str, ask: Callable[[Installation, str], object]) -> None:
        """Ask, and once more at once as a new machine if this identity is told to be a copy (rows 4 and 5)."""
        try:
            ask(here, product)
        except Refused as refused:
            if refused.refusal.code != "identity-cloned" or not _may_renew_identity(here):
                raise
            here.renew_identity(because_told=True)
            ask(here, product)

    def set_host(self, product: str | None, text: str) -> tuple[str, str, Settings]:
        """Set a product's KMS host by hand: NAME[:PORT], [IPv6][:PORT], or :PORT for the host that is set.

        Where none is set by name, :PORT is the port of every host that DNS names, whatever port its record says: also
        a way to say that no other port is ever called. A try that waits is made at once. Says publisher, product, and what is set now.

        Raises:
            UsageError: if the text is no address.
        """
        given = address.read(text)
        return self._set(
            product, lambda found: found._replace(name=given.name or found.name, port=given.port)
        )

    def clear_host(self, product: str | None = None) -> tuple[str, str, Settings]:
        """Forget the KMS host that was set by hand, its port and the domain too: hosts are found by DNS again."""
        return self._set(product, lambda found: found._replace(name="", port=None, domain=""))

    def set_domain(self, product: str | None, text: str) -> tuple[str, str, Settings]:
        """Set the one domain in which a product's hosts are looked for; a host set by hand comes before it.

        Raises:
            UsageError: if the text is no domain.
        """
        domain = address.read_domain(text)
        return self._set(product, lambda found: found._replace(domain=domain))

    def set_caching(self, product: str | None, *, caching: bool) -> tuple[str, str, Settings]:
        """Say whether the host that answered last is asked first, or every try begins with a query (D3)."""
        pub, name = self.select(product)
        with self.store.writing():
            settings = self.store.settings(pub, name)._replace(caching=caching)
            self.store.write_settings(pub, name, settings)
        return pub, name, settings

    def set_intervals(
        self, product: str | None = None, *, renewal: int | None = None, retry: int | None = None
    ) -> tuple[str, str, Settings]:
        """Set own renewal or retry interval, seconds; they count until a host tells its own (K6).

        Raises:
            UsageError: outside 15 minutes to 30 days, or if the retry interval would exceed the renewal interval.
        """
        for given in (renewal, retry):
            if given is not None and not policies.SHORTEST_WAIT <= given <= policies.LONGEST_RENEWAL:
                raise UsageError(
                    f"{given // policies.MINUTE} minutes are outside "
                    f"{policies.SHORTEST_WAIT // policies.MINUTE} (15 minutes) to "
                    f"{policies.LONGEST_RENEWAL // policies.MINUTE} (30 days)."
                )

        def change(found: Settings) -> Settings:
            return found._replace(renewal=renewal or found.renewal, retry=retry or found.retry)

        return self._set(product, change, own_intervals=True)

    def _set(
        self, product: str | None, change: Callable[[Settings], Settings], *, own_intervals: bool = False
    ) -> tuple[str, str, Settings]:
        pub, name = self.select(product)
        with self.store.writing():
            here = self.open(pub)
            settings = change(self.store.settings(pub, name))
            record = here.record(name)
            if not own_intervals:
                record = record._replace(known=None)  # it was found as another setting said
            else:
                record = record._replace(renewal=None, retry=None)
                wanted = settings.retry or here.product(name).policy.retry
                if wanted > (settings.renewal or here.product(name).policy.renewal):
                    raise UsageError(
                        "The retry interval would be longer than the renewal interval.",
                        "Set the other one first: `slmgr /sai` retry, `slmgr /sri` renewal.",
                    )
            self.store.write_settings(pub, name, settings)
            here.remember(name, record._replace(next_try=_planned_again(here, name, record, own_intervals)))
            here.save()
        return pub, name, settings

    def _stands(self, here: Installation, product: str) -> bool:
        """Whether there is nothing to ask for: the installed key's own activation is in force.

        Or it is blocked and the key was dropped after it: then only the status list can say otherwise. What stands and
        cannot be returned, since the authority knows a newer confirmation, is asked for anew: that is not counted.
        """
        grant, label = here.grant(product), self.store.label(here.pub, product)
        if grant is None:
            return False
        standing = here.standing(product)
        if standing.reason.startswith("blocked"):
            return self.store.key(here.pub, product) is None
        if here.record(product).superseded == grant.document.jti:
            return False
        return standing.licensed and (label is None or label.key == grant.document["key"])

    def question(self, product: str | None = None) -> Question:
        """The request for a medium, and its IID (P6)."""
        pub, name = self.select(product)
        with self.store.writing():
            here = self.open(pub)
            bundle = contact.pending_request(here, name)
            here.save()
        return Question(pub, name, ids.iid_of_request(contact.request_document(bundle).claims), bundle)

    def apply(self, data: bytes) -> Activated:
        """Put a confirmation that came by file into force, whoever asked for it, if it fits this machine (row 12).

        Raises:
            Refused: ``other-machine``, or the product is not installed.
            DocumentRefused: if it does not hold.
        """
        bundle = trust.read_bundle(data)
        with self.store.writing():
            granted = self._verified(bundle, "confirmation")
            product = granted.document["prd"]
            here = self.open(granted.roots.pub)
            if product not in here.state.products:
                raise Refused(Refusal("product-not-installed", f"The confirmation is for {product}."))
            contact.take_up(here, granted, answers=self._answers(here, product, granted))
            return Activated(here.pub, product, here.standing(product), None)

    def _answers(self, here: Installation, product: str, granted: Granted) -> bool:
        pending = self.store.pending(here.pub, product)
        try:
            if pending is None:
                return False
            matching.check_answer(granted.document, contact.request_document(pending))
        except DocumentRefused:
            return False
        return True

    def take_list(self, data: bytes) -> ListTaken:
        """Take a publisher's status list that a medium, an update or VAMT brought (M5, PROTOCOL section 7).

        Raises:
            Refused: ``product-not-installed``, if nothing of any publisher is here.
            BrokenData: ``not-writable``, if it is only where this user may read it.
            DocumentRefused: if it does not hold, or is of none whose products are here.
        """
        head = trust.read_bundle(data.partition(b"\n")[0])
        with self.store.writing():
            granted = self._verified(head, "status")
            here = self.open(granted.roots.pub)
            taken = contact.take_list(here, data)
            here.save()
            standings = {name: here.standing(name) for name in here.state.products}
            return ListTaken(here.pub, int(granted.document["ver"]), taken, standings)

    def _verified(self, bundle: dict[str, Any], name: str) -> Granted:
        """The document `name`, under whichever installed publisher it is from."""
        refused: DocumentRefused | None = None
        for pub in self.store.publishers():
            try:
                return trust.take_up(trust.verify(bundle, name, folder.roots(self.store.home, pub)))
            except DocumentRefused as error:
                refused = error
        raise refused or self._not_here(None)

    def _not_here(self, product: str | None) -> VolactError:
        """That a product, or any at all, is not installed here, or only where this user may read it."""
        if self._system and any(product in (None, name) for _, name in installed(self._system)):
            return BrokenData(
                f"The product is installed in {self._system.home}; give the command as an administrator.",
                "not-writable",
            )
        return Refused(Refusal("product-not-installed", f"{product} is not." if product else ""))

    def give_back(self, product: str | None = None) -> GivenBack:
        """Give a product's activation back online; the machine is Unlicensed when it has the receipt (M6, row 13).

        Raises:
            Refused: ``nothing-to-return``, ``activation-returned``, or the authority's refusal.
            Unreachable: if nobody answers, or somebody else; the machine is as it was, and the same is sent again.
        """
        pub, name = self.select(product)
        with self.store.writing():
            here = self.open(pub)
            held, receipt = returning.give_back(here, name)
            return GivenBack(pub, name, held.act, here.standing(name), receipt.bundle())

    def promise(self, product: str | None = None) -> GivenBack:
        """Give a product's activation back by file: the machine is Unlicensed, then the return is signed (M6).

        Raises:
            Refused: ``nothing-to-return``, ``activation-returned``, ``machine-blocked``.
        """
        pub, name = self.select(product)
        with self.store.writing():
            here = self.open(pub)
            held, bundle = returning.promise(here, name)
            return GivenBack(pub, name, held.act, here.standing(name), bundle)

    def rearm(self, product: str | None = None) -> tuple[str, str, int]:
        """Reset grace and identity, as often as the policy allows; says how often it still may.

        Raises:
            Refused: ``rearms-used-up``.
        """
        pub, name = self.select(product)
        with self.store.writing():
            here = self.open(pub)
            allowed, used = here.product(name).policy.rearms, here.record(name).rearms
            if used >= allowed:
                raise Refused(Refusal("rearms-used-up", f"{used} of {allowed}."))
            here.start_again(name, rearms=used + 1)
            here.renew_identity()
            here.save()
        return pub, name, allowed - used - 1

    def generalize(self) -> list[tuple[str, str, bool]]:
        """Make this machine an image: identity, grants and state go, products and keys stay (M4).

        Says for each product whether a key is in the image.
        """
        found = []
        with self.store.writing():
            for pub in self.store.publishers():
                for name in self.store.products(pub):
                    found.append((pub, name, self.store.key(pub, name) is not None))
                self.store.forget(pub)
        return found

    def select(self, product: str | None) -> tuple[str, str]:
        """The product that is meant: the named one, or the only one.

        Raises:
            Refused: ``product-not-installed`` or ``product-ambiguous``, which lists them.
        """
        found = [(pub, name) for pub, name in installed(self.store) if product in (None, name)]
        if not found:
            raise self._not_here(product)
        if len(found) > 1:
            names = ", ".join(name for _, name in found)
            raise Refused(Refusal("product-ambiguous", f"Installed: {names}."))
        return found[0]


def installed(store: Store) -> Iterator[tuple[str, str]]:
    """Publisher and id of every product that is installed in a store."""
    for pub in store.publishers():
        for name in store.products(pub):
            yield pub, name


def _planned_again(here: Installation, product: str, record: Record, own_intervals: bool) -> int | None:
    """The next try after a setting has changed: with a new host at once, unless all is well; never later."""
    if record.next_try is None:
        return None
    if not own_intervals:
        return record.next_try if not record.failed and here.standing(product).licensed else None
    own = in_force(record, here.store.settings(here.pub, product), here.product(product).policy)
    interval = own.retry if record.failed else own.renewal
    return min(record.next_try, here.now + planning.spread(interval, here.around.chance()))


def _may_renew_identity(here: Installation) -> bool:
    """Once in 24 hours a server is believed that this identity is a copy (PROTOCOL section 6)."""
    at = here.state.identity_at
    return at is None or not 0 <= here.now - at < policies.DAY


def _or_none(read: Callable[[], _T]) -> _T | None:
    """What is stored, or None if it is missing or damaged: installing again mends it."""
    try:
        return read()
    except BrokenData:
        return None


def publisher_id(root: str) -> str:
    """The publisher id that ROOT means: itself, or of the root document in the file of that name.

    Raises:
        UsageError: if it is neither.
        DocumentRefused: if the file holds no root document.
    """
    if ids.is_thumbprint(root):
        return root
    if not os.path.exists(root):
        raise UsageError(
            f"{root[:80]!r} is no publisher id and no file.", "Give what `authority init` prints."
        )
    members = jws.read_json(folder.read_file(root))
    return trust.open_roots(members, str(trust.open_self_keyed(members, "root").document["pub"])).pub
