"""The HTTP face without a network: shapes, bad input, group commit, faults (T36, T39)."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from authority_site import ADDRESS, Site
from volact import http
from volact.authority import statuslist
from volact.authority.api import Face
from volact.authority.asks import Sent
from volact.grouping import GroupCommit
from volact.protocol.problems import PROBLEMS, Refusal, Refused
from world import PRODUCT, claims_of, new_key, remaining

Call = Callable[..., Awaitable[tuple[int, dict[str, str], bytes]]]


async def call(
    app: http.App,
    method: str,
    path: str,
    body: bytes | list[bytes] = b"",
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """One request through the ASGI application."""
    parts = list(body) if isinstance(body, list) else [body]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.sleep(60)
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts) or part == b"wait"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "https",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("192.0.2.1", 1234),
        "server": ("127.0.0.1", 443),
        "state": {},
    }
    await app(scope, receive, send)
    answered = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, b"".join(one.get("body", b"") for one in sent[1:])


def through(site: Site, use: Callable[[http.App, Face], Awaitable[Any]]) -> Any:
    """Run `use` with the site's application."""

    async def run() -> Any:
        face = Face(site.authority, lambda: None)
        await face.start()
        try:
            return await use(face.app(), face)
        finally:
            await face.stop()

    return asyncio.run(run())


def post(site: Site, *bodies: Any) -> list[tuple[int, dict[str, str], Any]]:
    async def use(app: http.App, _face: Face) -> list[Any]:
        answers = []
        for body in bodies:
            raw = body if isinstance(body, bytes | list) else json.dumps(body).encode()
            status, headers, content = await call(app, "POST", "/v1/requests", raw)
            answers.append((status, headers, json.loads(content)))
        return answers

    result: list[tuple[int, dict[str, str], Any]] = through(site, use)
    return result


PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "next"}


def check_problem(status: int, headers: dict[str, str], body: dict[str, Any], code: str) -> None:
    """RFC 9457, a fixed type and nothing of the inside (T39)."""
    assert body["code"] == code
    assert status == body["status"] == PROBLEMS[code].status
    assert headers["content-type"] == "application/problem+json"
    assert body["type"] == f"urn:volact:problem:{code}"
    assert body.keys() >= PROBLEM_MEMBERS
    text = json.dumps(body).lower()
    assert not [
        word for word in ("traceback", "select ", "insert ", ".py", "/tmp", "sqlalchemy") if word in text
    ]


def test_one_request_and_its_repetition(site: Site) -> None:
    key, machine = site.key(), site.machine()
    request = machine.request(key)
    (status, headers, body), again = post(site, request, request)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert body.keys() == {"token", "chain", "roots"}
    assert again[2] == body


def test_a_batch_is_answered_row_by_row_in_order(site: Site) -> None:
    key = site.key("mak", 2)
    rows: list[Any] = [site.machine().request(key) for _ in range(3)]
    rows += [remaining(key, site.pub), site.machine().request(new_key()), {"token": "x"}, {"nonsense": 1}, 7]
    rows += [{"requests": []}]
    ((status, _, body),) = post(site, {"requests": rows})
    assert status == 200
    codes = [one.get("code", "granted") for one in body["answers"]]
    assert codes[:3] == ["granted", "granted", "no-activations-left"]
    assert codes[3] == "granted"
    assert codes[4:] == [
        "key-unknown",
        "document-refused",
        "request-malformed",
        "request-malformed",
        "request-malformed",
    ]
    for one in body["answers"][4:]:
        assert one.keys() >= PROBLEM_MEMBERS


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "request-malformed"),
        (b"nonsense", "request-malformed"),
        (b"[]", "request-malformed"),
        (b"null", "request-malformed"),
        (b'{"token": 5}', "request-malformed"),
        (b'{"token": "\xff"}', "request-malformed"),
        (b'{"token": "a", "jwk": [], "proof": "b"}', "request-malformed"),
        (b'{"token": "a", "unknown": 1}', "request-malformed"),
        (b'{"requests": []}', "request-malformed"),
        (b'{"requests": {}}', "request-malformed"),
        (b'{"requests": [1], "proof": "x"}', "request-malformed"),
        (b'{"requests": [%s]}' % b",".join([b"{}"] * 101), "request-malformed"),
        (b"{}", "request-malformed"),
        (b"\xff\xfe{}", "request-malformed"),
        (b"[" * 100_000, "request-malformed"),
        (b'{"jwk":' * 50_000, "request-malformed"),
        (b'{"token": "not a jws", "jwk": {}, "proof": "x"}', "document-refused"),
        (b'{"token": "a.b.c", "jwk": {}, "proof": "x"}', "document-refused"),
        (b'{"proof": "a.b.c"}', "document-refused"),
        (b'{"proof": "\\u0000\\n\\u001b[31m"}', "document-refused"),
        (b'{"proof": "' + b"A" * 9000 + b'"}', "document-refused"),
        (b"x" * (http.MAX_BODY + 1), "body-too-large"),
    ],
)
def test_bad_bodies_have_their_code(site: Site, body: bytes, code: str) -> None:
    ((status, headers, answer),) = post(site, body)
    check_problem(status, headers, answer, code)
    assert not site.rows("answer")


def test_an_unknown_typ_is_refused(site: Site) -> None:
    key, machine = site.key(), site.machine()
    request = machine.request(key)
    token = machine.signer.sign_payload("request", b"{}").split(".")
    header = json.dumps(
        {"alg": "ES256", "kid": machine.cmid, "typ": "volact-novelty+jwt"}, separators=(",", ":")
    )
    from volact.protocol.ids import b64u

    forged = ".".join([b64u(header.encode()), *token[1:]])
    ((status, headers, answer),) = post(site, {**request, "token": forged})
    check_problem(status, headers, answer, "document-refused")


def test_a_large_body_in_parts_is_cut_at_the_limit(site: Site) -> None:
    ((status, headers, answer),) = post(site, [b"x" * 100_000] * 12)
    check_problem(status, headers, answer, "body-too-large")


def test_a_slow_body_is_cut(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults: Any = http.read_body.__kwdefaults__
    monkeypatch.setitem(defaults, "seconds", 0.05)
    ((status, headers, answer),) = post(site, [b"wait"])
    check_problem(status, headers, answer, "request-malformed")


@pytest.mark.parametrize(
    ("method", "path", "code", "allow"),
    [
        ("GET", "/v1/requests", "method-not-allowed", "POST"),
        ("DELETE", "/v1/requests", "method-not-allowed", "POST"),
        ("POST", "/v1/status", "method-not-allowed", "GET"),
        ("PUT", "/v1/root", "method-not-allowed", "GET"),
        ("GET", "/", "not-found", None),
        ("GET", "/v1/requests/", "not-found", None),
        ("POST", "/v1/key/issue", "not-found", None),
        ("GET", "/v1/requests/../status", "not-found", None),
        ("GET", "/schema", "not-found", None),
        ("GET", "/%00", "not-found", None),
    ],
)
def test_unknown_paths_and_methods(site: Site, method: str, path: str, code: str, allow: str | None) -> None:
    status, headers, body = through(site, lambda app, _face: call(app, method, path))
    check_problem(status, headers, json.loads(body), code)
    assert headers.get("allow") == allow


def test_the_status_list_has_an_etag_and_is_seen_when_it_changes(site: Site) -> None:
    key = site.key()

    async def use(app: http.App, face: Face) -> None:
        status, headers, body = await call(app, "GET", "/v1/status")
        head, _, rest = body.partition(b"\n")
        assert (status, rest) == (200, b"")
        claims = claims_of(json.loads(head)["token"])
        chain = claims_of(json.loads(head)["chain"][0])
        assert headers["etag"] == f'"{chain["iat"]}.{claims["ver"]}"'
        for known in (headers["etag"], f'"other", {headers["etag"]}', f"W/{headers['etag']}"):
            status, again, body = await call(app, "GET", "/v1/status", headers={"If-None-Match": known})
            assert (status, again["etag"], body) == (304, headers["etag"], b"")
        site.office.block_key(key.label, everything=False)
        await asyncio.to_thread(face.refresh)
        status, changed, body = await call(
            app, "GET", "/v1/status", headers={"If-None-Match": headers["etag"]}
        )
        assert status == 200
        assert changed["etag"] != headers["etag"]
        assert body.partition(b"\n")[2].startswith(b"key ")

    through(site, use)


def test_who_hears_of_a_return_finds_it_on_the_list(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine believes the list alone (M6), and asks for it at once: it is not a tick behind the answer."""
    key = site.key()
    machine, ref, act = site.activated(key)
    other, other_ref, other_act = site.activated(key)

    async def give_back(app: http.App, bundle: dict[str, Any]) -> tuple[int, str]:
        status, _, _ = await call(app, "POST", "/v1/requests", json.dumps(bundle).encode())
        _, _, body = await call(app, "GET", "/v1/status")
        return status, body.partition(b"\n")[2].decode()

    def broken(*_: object) -> None:
        raise Refused(Refusal("storage-unavailable"))

    async def use(app: http.App, face: Face) -> None:
        status, listed = await give_back(app, machine.request(key, "return", ref=ref))
        assert (status, act in listed) == (200, True)
        with monkeypatch.context() as patched:
            patched.setattr(statuslist, "published", broken)
            status, listed = await give_back(app, other.request(key, "return", ref=other_ref))
        assert (status, other_act in listed) == (200, False), "it is on disk, and so it is said"
        await asyncio.to_thread(face.refresh)
        _, _, body = await call(app, "GET", "/v1/status")
        assert other_act in body.decode()

    through(site, use)


def test_the_root_documents(site: Site) -> None:
    status, _, body = through(site, lambda app, _face: call(app, "GET", "/v1/root"))
    assert status == 200
    assert json.loads(body) == {"root": site.keyring.roots.first, "roots": []}


def test_a_refusal_with_a_time_has_retry_after(site: Site) -> None:
    key, machine = site.key(), site.machine()
    site.activate(machine, key)
    for _ in range(6):
        machine = machine.rebuilt()
        site.activate(machine, key)
    ((status, headers, body),) = post(site, machine.rebuilt().request(key))
    check_problem(status, headers, body, "reactivated-too-often")
    assert headers["retry-after"] == str(body["retry_after"])


def test_an_unforeseen_fault_says_a_correlation_id_and_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = site.key()
    request = site.machine().request(key)

    def fail(*_: object) -> None:
        raise ValueError(f"secret inside: {key.text()}")

    monkeypatch.setattr(site.authority, "answer", fail)
    with structlog.testing.capture_logs() as logged:
        (status, headers, body), (_, _, batch) = post(site, request, {"requests": [request]})
    check_problem(status, headers, body, "internal")
    (one, two) = [entry for entry in logged if entry["event"] == "internal"]
    assert body["correlation"] == one["correlation"] != two["correlation"]
    assert batch["answers"][0]["code"] == "internal"
    assert one["error"] == "ValueError"
    for text in (json.dumps(body), json.dumps(logged)):
        assert key.text() not in text
        assert "secret inside" not in text


# --- group commit -----------------------------------------------------------------------------------------------


def sent_of(bundle: dict[str, Any]) -> Sent:
    return Sent(bundle["token"], bundle["jwk"], bundle["proof"])


def test_what_comes_during_a_commit_is_one_batch_in_order(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = site.key("mak", 10)
    sizes = []
    decide = site.authority.decide

    go_on = threading.Event()

    def counted(batch: Any) -> Any:
        sizes.append(len(batch))
        if len(sizes) == 1:
            assert go_on.wait(10)
        return decide(batch)

    monkeypatch.setattr(site.authority, "decide", counted)

    async def run() -> list[Any]:
        group = GroupCommit(site.authority.answer)
        first = group.submit(sent_of(site.machine().request(key)), ADDRESS)
        while not sizes:  # noqa: ASYNC110 - filled by another thread
            await asyncio.sleep(0.001)
        rest = [group.submit(sent_of(site.machine().request(key)), ADDRESS) for _ in range(12)]
        go_on.set()
        outcomes = [await first, *await asyncio.gather(*rest)]
        await group.close()
        return outcomes

    outcomes = asyncio.run(run())
    assert sizes == [1, 12]
    assert [isinstance(one, Refusal) for one in outcomes] == [False] * 10 + [True] * 3


def test_the_same_request_twice_at_once_is_one_row_and_one_answer(site: Site) -> None:
    request = site.machine().request(site.key())

    async def use(app: http.App, _face: Face) -> Any:
        body = json.dumps(request).encode()
        return await asyncio.gather(*[call(app, "POST", "/v1/requests", body) for _ in range(16)])

    answers = through(site, use)
    assert {(status, body) for status, _, body in answers} == {(200, answers[0][2])}
    assert len(site.rows("activation")) == len(site.rows("answer")) == 1


def test_a_caller_that_hangs_up_disturbs_nobody_and_may_come_back(site: Site) -> None:
    key = site.key("mak", 10)
    requests = [site.machine().request(key) for _ in range(5)]

    async def use(app: http.App, _face: Face) -> Any:
        tasks = [
            asyncio.ensure_future(call(app, "POST", "/v1/requests", json.dumps(one).encode()))
            for one in requests
        ]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        again = [await call(app, "POST", "/v1/requests", json.dumps(one).encode()) for one in requests]
        return [task.result()[2] for task in tasks if not task.cancelled()], [body for _, _, body in again]

    kept, again = through(site, use)
    assert set(kept) <= set(again)
    assert len(kept) == 3
    assert site.counts(key)[1] == 5


def test_one_ask_that_breaks_us_does_not_take_the_others_with_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from volact.authority import activation

    key, poison = site.key("mak", 10), site.machine()
    requests = [site.machine().request(key), poison.request(key), site.machine().request(key)]
    decide = activation.decide

    def fragile(ask: Any, *more: Any, **named: Any) -> Any:
        if ask.cmid == poison.cmid:
            raise ZeroDivisionError
        return decide(ask, *more, **named)

    monkeypatch.setattr(activation, "decide", fragile)
    ((_, _, body),) = post(site, {"requests": requests})
    assert [one.get("code", "granted") for one in body["answers"]] == ["granted", "internal", "granted"]
    assert site.counts(key) == (10, 2, 8)


def test_no_log_or_event_holds_what_was_sent(site: Site) -> None:
    """T36: newlines, terminal escapes and keys that somebody sends do not come back from a log."""
    key = site.key()
    canary = "CANARY\n\x1b[31m"
    with structlog.testing.capture_logs() as logged:
        post(
            site,
            {"token": canary, "jwk": {canary: canary}, "proof": canary},
            {"proof": key.text()},
            {canary: 1},
            canary.encode(),
        )
    text = json.dumps(logged) + "".join(str(row) for row in site.rows("event"))
    assert "CANARY" not in text
    assert key.text() not in text
    assert PRODUCT
