"""Who is no KMS host, and what is no lease: real HTTPS, real connections (T1, T15, D4, K10).

No client accepts any of them; and whoever did not prove itself has received no check-in.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client.kms_server import KmsHost, KmsServer, claims_of
from client.machine import FOREIGN, Machine, refused
from client.publisher import EPOCH, PRODUCT, Publisher, random_id
from client.server import cut, drip, send, slow
from volact import signing
from volact.calls import HostCaller
from volact.client.client import Client
from volact.protocol import jws
from volact.protocol import machine as machines
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import DocumentRefused

pytestmark = pytest.mark.sockets

CAM = "com.example.cam"
TIMEOUT = 0.5


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def host(publisher: Publisher) -> KmsHost:
    return KmsHost(publisher, (PRODUCT, CAM))


@pytest.fixture
def server(tmp_path: Path, host: KmsHost) -> Iterator[KmsServer]:
    with KmsServer(tmp_path / "tls", host) as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, publisher: Publisher, server: KmsServer) -> Machine:
    return connected(Machine(tmp_path / "home", publisher), server)


def connected(machine: Machine, server: KmsServer) -> Machine:
    machine.kms = server.host
    machine.around = machine.around._replace(
        call_host=lambda name, port, _until, _ips: HostCaller(
            name, port, connect=TIMEOUT, read=TIMEOUT, whole=2 * TIMEOUT
        )
    )
    machine.client = Client(machine.store, machine.around)
    machine.install()
    machine.client.set_host(None, f"127.0.0.1:{server.port}")
    return machine


def test_a_machine_is_activated_over_https(machine: Machine, server: KmsServer) -> None:
    assert machine.client.activate().standing.reason == "lease"
    assert machine.client.activate().standing.licensed
    assert len(server.requests) == 2
    assert server.host.gets == 2


def test_a_name_is_looked_up_and_an_ipv6_address_needs_none(machine: Machine, server: KmsServer) -> None:
    machine.client.set_host(None, f"localhost:{server.port}")
    assert machine.client.activate().standing.licensed
    machine.client.set_host(None, f"[::1]:{server.port}")
    refused("host-unreachable", machine.client.activate)  # it listens on 127.0.0.1 alone


# No host

Change = Callable[[KmsServer], Any]


def from_what_a_client_has(server: KmsServer) -> None:
    """Everything in a client's folder, and no delegation: its own key in the host's place (T1)."""
    server.host.key = signing.generate()
    server.host.document = server.host.host_document()


def self_made_delegation(server: KmsServer) -> None:
    host, publisher = server.host, server.publisher
    issuer = publisher.issuer
    publisher.issuer = signing.generate()
    host.delegate()
    publisher.issuer = issuer
    host.document = host.host_document()


def self_made_chain(server: KmsServer) -> None:
    """Another publisher's, from the root down."""
    other = KmsHost(Publisher())
    other.tls, other.key = server.host.tls, server.host.key
    other.delegate()
    other.document = other.host_document()
    server.host.proofs = [other.proof()]


def another_publishers_under_our_root(server: KmsServer) -> None:
    """Likewise, with our root document 1, which everybody has."""
    self_made_chain(server)
    server.host.proofs[0]["root"] = server.publisher.root_1


def another_root_and_our_chain(server: KmsServer) -> None:
    server.host.proofs = [server.host.proof(root=Publisher().root_1)]


def expired_delegation(server: KmsServer) -> None:
    """It signs its host document today."""
    server.host.delegate(exp=EPOCH + DAY)
    server.host.document = server.host.host_document(iat=EPOCH + DAY + 1)


def document_before_its_delegation(server: KmsServer) -> None:
    server.host.document = server.host.host_document(iat=EPOCH - HOUR - 1)


def products_beyond_its_delegation(server: KmsServer) -> None:
    server.host.delegate((CAM,))
    server.host.document = server.host.host_document(prd=[PRODUCT])


def replayed_document(server: KmsServer) -> None:
    """A good host's, before another server's TLS key."""
    other = KmsHost(server.publisher)
    server.host.proofs = [other.proof()]


def no_tls_key_at_all(server: KmsServer) -> None:
    server.host.document = server.host.host_document(tls=[])


def a_lease_in_the_document_s_place(server: KmsServer) -> None:
    host = server.host
    claims = {"sub": "B" * 43, "exp": EPOCH + DAY, "prd": PRODUCT, "cus": "Example Ltd", "req": random_id()}
    more = {"fp": {}, "ren": 1, "rty": 1, "cnt": 1, "sver": [0, 0]}
    host.document = host.key.sign("lease", host.publisher.claims(**claims, **more))


def signed_by_the_issuer(server: KmsServer) -> None:
    """No host below it: the chain is too short."""
    proof = server.host.proof()
    server.host.proofs = [{**proof, "chain": proof["chain"][:1]}]


def not_a_laboratory(server: KmsServer) -> None:
    server.host.document = server.host.host_document(lab=False)


def revoked(server: KmsServer) -> None:
    """A root document that revokes the issuer comes with the very proof."""
    server.publisher.new_root(server.publisher.issuer, "new")


def no_nonce(server: KmsServer) -> None:
    server.host.proofs = [server.host.proof(nonce="")]


def nonce_too_long(server: KmsServer) -> None:
    server.host.proofs = [server.host.proof(nonce="n" * 201)]


def answers_html(server: KmsServer) -> None:
    server.misbehave = lambda handler: send(handler, 200, b"<html>Welcome to the portal</html>")


def answers_json(server: KmsServer) -> None:
    server.misbehave = lambda handler: send(handler, 200, b"[1]")


def redirects(server: KmsServer) -> None:
    server.misbehave = lambda handler: send(handler, 302, b"{}", Location="https://elsewhere.test/v1/host")


def too_much(server: KmsServer) -> None:
    server.misbehave = lambda handler: send(handler, 200, b" " * (256 * 1024 + 1))


def nested(server: KmsServer) -> None:
    server.misbehave = lambda handler: send(handler, 200, b"[" * 100_000)


NO_HOST: dict[str, Change] = {
    one.__name__: one
    for one in (
        from_what_a_client_has,
        self_made_delegation,
        self_made_chain,
        another_publishers_under_our_root,
        another_root_and_our_chain,
        expired_delegation,
        document_before_its_delegation,
        products_beyond_its_delegation,
        replayed_document,
        no_tls_key_at_all,
        a_lease_in_the_document_s_place,
        signed_by_the_issuer,
        not_a_laboratory,
        revoked,
        no_nonce,
        nonce_too_long,
        answers_html,
        answers_json,
        redirects,
        nested,
    )
}


@pytest.mark.parametrize("case", sorted(NO_HOST))
def test_who_does_not_prove_to_be_a_host_learns_nothing(
    machine: Machine, server: KmsServer, case: str
) -> None:
    before, cmid = machine.standing(), machine.cmid()
    NO_HOST[case](server)
    refused("host-untrusted", machine.client.activate)
    assert server.requests == [], "no check-in was sent"
    assert machine.standing() == before
    assert machine.cmid() == cmid
    assert machine.record().next_try == EPOCH + 2 * HOUR


def test_an_answer_without_end_is_no_answer(machine: Machine, server: KmsServer) -> None:
    too_much(server)
    refused("answer-nonsense", machine.client.activate)
    assert server.requests == []


def test_a_host_for_another_product_is_not_asked(machine: Machine, server: KmsServer) -> None:
    server.host.delegate((CAM,))
    server.host.document = server.host.host_document()
    refused("product-not-served", machine.client.activate)
    assert server.requests == []


def test_a_connection_that_is_opened_anew_must_have_the_same_key(
    tmp_path: Path, machine: Machine, server: KmsServer
) -> None:
    """The proof goes through to the good host, which hangs up; then somebody else takes the connection."""

    def hang_up(handler: Any) -> None:
        body = server.host.got().body
        send(handler, 200, body, Connection="close")
        handler.close_connection = True

    other = KmsServer(tmp_path / "other-tls", KmsHost(server.publisher))
    original = HostCaller.post

    def post(self: HostCaller, path: str, body: Any) -> Any:
        self._port = other.port
        return original(self, path, body)

    server.misbehave = hang_up
    with other, pytest.MonkeyPatch.context() as patch:
        patch.setattr(HostCaller, "post", post)
        refused("host-untrusted", machine.client.activate)
    assert other.requests == []
    server.misbehave = None


def test_a_host_that_closes_after_each_answer_is_served_all_the_same(
    machine: Machine, server: KmsServer
) -> None:
    def hang_up(handler: Any) -> None:
        if handler.command == "POST":
            send(handler, *server.posted(server.requests[-1]), Connection="close")
        else:
            send(handler, *server.got(), Connection="close")
        handler.close_connection = True

    server.misbehave = hang_up
    assert machine.client.activate().standing.licensed


# Nobody


def test_a_host_that_is_not_there(machine: Machine, server: KmsServer) -> None:
    server.stop()
    refused("host-unreachable", machine.client.activate)


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 63 + ".invalid"])
def test_a_name_that_nobody_has(machine: Machine, name: str) -> None:
    machine.client.set_host(None, name)
    refused("host-unreachable", machine.client.activate)


@pytest.mark.parametrize("misbehaviour", ["slow", "cut", "drip"])
def test_a_host_that_does_not_finish_its_answer(
    machine: Machine, server: KmsServer, misbehaviour: str
) -> None:
    server.misbehave = {"slow": slow(3 * TIMEOUT), "cut": cut, "drip": drip}[misbehaviour]
    refused("host-unreachable", machine.client.activate)
    server.misbehave = None
    assert machine.client.activate().standing.licensed


def test_a_lost_lease_comes_again_by_the_same_bytes(machine: Machine, server: KmsServer) -> None:
    """T14: the host keeps its last answer under (cmid, req)."""
    kept: dict[str, Any] = {}

    def remember(checkin: Any) -> dict[str, Any]:
        kept.setdefault(checkin["req"], server.host.lease(checkin))
        return kept[checkin["req"]]  # type: ignore[no-any-return]

    def lose(handler: Any) -> None:
        if handler.command == "POST":
            server.posted(server.requests[-1])
            cut(handler)
        else:
            send(handler, *server.got())

    server.host.answers = [remember, remember]
    server.misbehave = lose
    refused("host-unreachable", machine.client.activate)
    server.misbehave = None
    machine.client.activate()
    (lease,) = kept.values()
    assert json.loads(machine.file("lease.json").read_bytes())["token"] == lease["token"]


# No lease


def other_machine(host: KmsHost, asked: Any) -> dict[str, Any]:
    return host.lease(asked, sub=signing.generate().kid)


def other_req(host: KmsHost, asked: Any) -> dict[str, Any]:
    return host.lease(asked, req=random_id())


def other_fp(host: KmsHost, asked: Any) -> dict[str, Any]:
    return host.lease(asked, fp=machines.fingerprint(host.publisher.pub, PRODUCT, FOREIGN))


def other_product(host: KmsHost, asked: Any) -> dict[str, Any]:
    return host.lease(asked, prd=CAM)


def longer_than_lmax(host: KmsHost, asked: Any) -> dict[str, Any]:
    host.delegate((PRODUCT, CAM), lmax=180 * DAY)
    return host.lease(asked, exp=host.clock() + 180 * DAY + 1)


def other_customer(host: KmsHost, asked: Any) -> dict[str, Any]:
    return host.lease(asked, cus="Another Ltd")


def after_the_delegation_s_end(host: KmsHost, asked: Any) -> dict[str, Any]:
    """A host document of better days, and a lease of today (K10)."""
    host.delegate((PRODUCT, CAM), exp=host.clock() - 1)
    return host.lease(asked)


def before_the_delegation(host: KmsHost, asked: Any) -> dict[str, Any]:
    return host.lease(asked, iat=EPOCH - HOUR - 1, exp=EPOCH + DAY)


def ends_before_it_begins(host: KmsHost, asked: Any) -> dict[str, Any]:
    # Nothing here writes such a document, so it is signed beneath the writer's checks.
    claims = {**claims_of(host.lease(asked)["token"]), "exp": host.clock() - 1}
    return host.chained(host.key.sign_payload("lease", jws.write_json(claims)))


def another_key(host: KmsHost, asked: Any) -> dict[str, Any]:
    good = host.key
    host.key = signing.generate()
    bundle = host.lease(asked)
    host.key = good
    return bundle


def another_publisher(host: KmsHost, asked: Any) -> dict[str, Any]:
    return KmsHost(Publisher()).lease(asked)


def a_changed_byte(host: KmsHost, asked: Any) -> dict[str, Any]:
    bundle = host.lease(asked)
    header, payload, signature = bundle["token"].split(".")
    first = "B" if signature[0] == "A" else "A"
    return {**bundle, "token": f"{header}.{payload}.{first}{signature[1:]}"}


def the_check_in_itself(host: KmsHost, asked: Any) -> dict[str, Any]:
    return host.chained(asked.token)


def a_confirmation(host: KmsHost, asked: Any) -> dict[str, Any]:
    claims = {name: asked[name] for name in ("sub", "prd", "fp", "req")}
    more = {"key": "K" * 43, "act": random_id()}
    return host.publisher.bundle(
        host.publisher.issuer.sign("confirmation", host.publisher.claims(**claims, **more))
    )


NO_LEASE = {
    one.__name__: one
    for one in (
        other_machine,
        other_req,
        other_fp,
        other_product,
        longer_than_lmax,
        other_customer,
        after_the_delegation_s_end,
        before_the_delegation,
        ends_before_it_begins,
        another_key,
        another_publisher,
        a_changed_byte,
        the_check_in_itself,
        a_confirmation,
    )
}


@pytest.mark.parametrize("case", sorted(NO_LEASE))
def test_what_is_no_lease_for_this_very_check_in_is_not_stored(
    machine: Machine, host: KmsHost, case: str
) -> None:
    host.clock = lambda: EPOCH + DAY
    before = machine.standing()
    host.answers = [lambda asked: NO_LEASE[case](host, asked)]
    with pytest.raises(DocumentRefused):
        machine.client.activate()
    assert machine.standing() == before
    assert not machine.file("lease.json").exists()


def test_a_lease_at_the_very_edge_of_its_delegation_is_taken(machine: Machine, host: KmsHost) -> None:
    host.clock = lambda: EPOCH + DAY
    host.delegate((PRODUCT, CAM), exp=EPOCH + DAY, lmax=180 * DAY)
    assert machine.client.activate().standing.licensed


def test_another_host_of_the_same_publisher_may_answer(machine: Machine, host: KmsHost) -> None:
    """PROTOCOL section 2: any kms-host delegation under the pin, if sub, req, prd and fp fit."""
    host.answers = [lambda asked: KmsHost(host.publisher).lease(asked)]
    assert machine.client.activate().standing.licensed


def test_swapped_leases_are_nobody_s(tmp_path: Path, machine: Machine, server: KmsServer) -> None:
    """T15: twenty clients, each answered with the answer of the one before it."""
    host = server.host
    leases: list[dict[str, Any]] = []

    def swap(asked: Any) -> dict[str, Any]:
        leases.append(host.lease(asked))
        return leases[-2] if len(leases) > 1 else leases[0]

    machine.client.activate()
    for number in range(20):
        other = connected(Machine(tmp_path / f"m{number}", server.publisher), server)
        host.answers = [swap]
        if number == 0:
            other.client.activate()
            continue
        with pytest.raises(DocumentRefused):
            other.client.activate()
        assert not other.standing().licensed
