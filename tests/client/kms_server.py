"""A KMS host that a test holds in its hand, in memory or behind real HTTPS, good or as it is told to misbehave.

Independent of `volact.kmshost`: what it says follows PROTOCOL.md alone, so that client and host cannot be wrong
together.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from client.publisher import PRODUCT, Publisher, random_id
from client.server import Server
from volact import signing
from volact.calls import Answer
from volact.protocol import ids, jws, trust
from volact.protocol.documents import Document
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import Refusal, Unreachable

HOST = "kms.example.com:1688"


class KmsHost:
    """A host's key, delegation and documents, and its answers.

    Attributes:
        answers: what the next check-ins are answered by: a refusal, an error, an `Answer`, a bundle, or a
            function of the check-in that makes one; without one a lease.
        proofs: the same for ``GET /v1/host``.
        checkins: those that came.
        gets: how often it was asked to prove itself.
        lists: how often it was asked for the status list.
        list: the list that it holds, or what it answers instead; `pair` is what its leases say of it.
        calls: the addresses at which it was called.
        untils: when each of these tries must be over.
        down: whether nobody answers.
    """

    def __init__(
        self, publisher: Publisher, products: tuple[str, ...] = (PRODUCT,), **delegation: Any
    ) -> None:
        self.publisher = publisher
        self.key = signing.generate()
        self.tls_key = "T" * 43
        self.tls = [self.tls_key]
        self.clock: Callable[[], int] = lambda: publisher.iat
        self.renewal, self.retry, self.count, self.validity = 7 * DAY, 2 * HOUR, 25, 180 * DAY
        self.answers: list[Any] = []
        self.proofs: list[Any] = []
        self.checkins: list[Document] = []
        self.calls: list[tuple[str, int]] = []
        self.untils: list[float] = []
        self.gets = self.lists = 0
        self.list: Any = Refusal("not-found")
        self.pair = (0, 0)
        self.down = False
        self.ip = "192.0.2.1"
        self.delegate(products, **delegation)
        self.document = self.host_document()

    def delegate(self, products: tuple[str, ...] = (PRODUCT,), **other: Any) -> None:
        """A delegation by the publisher's issuer; `other` claims make it another one."""
        claims = {
            "sub": self.key.kid,
            "exp": self.publisher.iat + 400 * DAY,
            "cnf": {"jwk": self.key.jwk.members()},
            "rol": "kms-host",
            "prd": list(products),
            "lmax": 3650 * DAY,
            "cus": "Example Ltd",
            "min_ver": {},
            "act": random_id(),
            "cmax": 1000,
        }
        self.delegation = self.publisher.issuer.sign(
            "delegation", self.publisher.claims(**{**claims, **other})
        )

    def host_document(self, **other: Any) -> str:
        (prd,) = [claims_of(self.delegation)["prd"]]
        claims = {"sub": self.key.kid, "ver": 1, "tls": self.tls, "prd": prd}
        return self.key.sign("host", self.publisher.claims(**{**claims, **other}))

    def chained(self, token: str) -> dict[str, Any]:
        return {
            "token": token,
            "chain": [self.publisher.issuer_delegation, self.delegation],
            "roots": list(self.publisher.roots_later),
        }

    def proof(self, **other: Any) -> dict[str, Any]:
        """The answer to ``GET /v1/host``."""
        self.nonce = ids.b64u(random_id().encode())
        return {"root": self.publisher.root_1, **self.chained(self.document), "nonce": self.nonce, **other}

    def lease(self, checkin: Document, **other: Any) -> dict[str, Any]:
        """The lease that answers a check-in; `other` claims make it a wrong one."""
        asked, now = checkin.claims, self.clock()
        claims = {
            "sub": asked["iss"],
            "iat": now,
            "exp": now + self.validity,
            "prd": asked["prd"],
            "cus": "Example Ltd",
            "req": asked["req"],
            "fp": asked["fp"],
            "ren": self.renewal,
            "rty": self.retry,
            "cnt": self.count,
            "sver": list(self.pair),
        }
        return self.chained(self.key.sign("lease", self.publisher.claims(**{**claims, **other})))

    def refuse(self, code: str, **extra: Any) -> None:
        """The next check-in is refused."""
        self.answers.append(Refusal(code, "", tuple(extra.items())))

    def too_few(self, count: int = 24, required: int = 25) -> None:
        """The next check-in is refused for the count, with the intervals in force."""
        self.refuse(
            "count-insufficient",
            count=count,
            required=required,
            counted="machines",
            renewal=self.renewal,
            retry=self.retry,
        )

    # What both ways to reach it share.

    def got(self) -> Answer:
        self.gets += 1
        return self._as_answer(self.proofs.pop(0) if self.proofs else self.proof())

    def listed(self) -> Answer:
        self.lists += 1
        if isinstance(self.list, bytes):
            return Answer(200, {}, self.list)
        return self._as_answer(self.list)

    def posted(self, body: bytes) -> Answer:
        checkin = trust.open_self_keyed(trust.read_bundle(body), "checkin").document
        self.checkins.append(checkin)
        answer = self.answers.pop(0) if self.answers else self.lease
        if callable(answer) and not isinstance(answer, Exception):
            answer = answer(checkin)
        return self._as_answer(answer)

    def _as_answer(self, answer: Any) -> Answer:
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Refusal):
            return Answer(answer.problem.status, {}, jws.write_json(answer.document()))
        return answer if isinstance(answer, Answer) else Answer(200, {}, jws.write_json(answer))

    def __call__(self, name: str, port: int, until: float, ips: Sequence[str] | None = None) -> "Connection":
        self.untils.append(until)
        self.calls.append((name, port))
        return Connection(self)


class Connection:
    """A connection to a host in memory, with the methods of `volact.calls.HostCaller`."""

    def __init__(self, host: KmsHost) -> None:
        self._host = host
        self.key = ""
        self.ip = host.ip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get(self, path: str, *, most: int | None = None) -> Answer:
        self._there()
        if path == "/v1/status":
            assert most
            assert most > 64 * 1024 * 1024
            return self._host.listed()
        assert path == "/v1/host"
        self.key = self._host.tls_key
        return self._host.got()

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        assert path == "/v1/leases"
        self._there()
        return self._host.posted(jws.write_json(body))

    def take_only(self, pins: list[str]) -> None:
        if self.key not in pins:
            raise Unreachable(Refusal("host-untrusted"))

    def _there(self) -> None:
        if self._host.down:
            raise Unreachable(Refusal("host-unreachable", "It is down."))


class KmsServer(Server):
    """The same host behind real HTTPS on loopback."""

    def __init__(self, folder: Path, host: KmsHost) -> None:
        super().__init__(folder, host.publisher)
        self.host = host
        self.port = int(self.url.rpartition(":")[2])
        host.tls_key, host.tls = self.pin, [self.pin]
        host.document = host.host_document()

    def posted(self, body: bytes) -> tuple[int, bytes]:
        answer = self.host.posted(body)
        return answer.status, answer.body

    def got(self) -> tuple[int, bytes]:
        answer = self.host.got()
        return answer.status, answer.body


def claims_of(token: str) -> dict[str, Any]:
    return jws.read_json(ids.unb64u(token.split(".")[1]))
