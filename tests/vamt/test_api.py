"""V6: VAMT's API. Who is let in, how requests and answers look, what is done once, and what goes on beside."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import postgres
from client.publisher import Publisher
from databases import Databases
from vamt.api_site import ADA, PASSPHRASE, ApiSite
from volact import http
from volact.protocol.policy import DAY, MINUTE
from volact.protocol.problems import Refusal, Refused, UsageError
from volact.vamt import sealing, serving, setup
from volact.vamt.api import app as api
from volact.vamt.api.app import own_names
from volact.vamt.api.desk import MOST_PAGE

ALL = {"all": True}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path, api_template: Path) -> Iterator[ApiSite]:
    with ApiSite(tmp_path / "home", api_template) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, api_template: Path) -> Iterator[ApiSite]:
    """One for all tests that leave nothing behind."""
    with ApiSite(tmp_path_factory.mktemp("shared") / "home", api_template) as made:
        yield made


# --- 1: by which name, from which page ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1689", "localhost.", "127.0.0.1:1689", "[::1]:1689", "192.0.2.7"]
)
def test_it_answers_to_its_own_names_and_to_addresses(shared: ApiSite, host: str) -> None:
    assert shared.call("GET", "/v1/me", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:1689",
        "127.0.0.1.evil.example",
        "a@localhost",
        " ",
        "localhost:x",
    ],
)
def test_a_name_that_somebody_else_lets_point_here_is_refused(shared: ApiSite, host: str) -> None:
    """DNS rebinding (T31): the page's own name is in the Host header."""
    answer = shared.call("GET", "/v1/me", headers={"host": host})
    assert (answer.status, answer.code) == (421, "server-name-unknown")


def test_the_setting_names_adds_names() -> None:
    assert {"vamt.example.com", "other", "localhost"} <= own_names("vamt.example.com, Other ,")


def test_no_page_of_another_site_calls(site: ApiSite) -> None:
    others = ("http://localhost:1689", "https://localhost:1690", "https://evil.example", "null")
    for origin in others:
        refused = site.call("POST", "/v1/groups", {"group": "g"}, headers={"origin": origin})
        assert (refused.status, refused.code) == (403, "origin-refused")
        assert "access-control-allow-origin" not in refused.headers
    assert site.call("GET", "/v1/groups").json == []
    own = site.call("POST", "/v1/groups", {"group": "g"}, headers={"origin": "https://localhost:1689"})
    assert own.status == 201


def test_every_answer_has_the_headers_that_let_nothing_foreign_run(shared: ApiSite) -> None:
    for path in ("/v1/me", "/v1/none", "/v1/openapi.json", "/v1/tables/machines"):
        answer = shared.call("GET", path)
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"


# --- 2: tokens ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "Bearer vamt_" + "A" * 43, "Bearer vamt_" + "A" * 44],
)
def test_a_token_that_is_none_is_refused(shared: ApiSite, said: str) -> None:
    answer = shared.call("GET", "/v1/me", role="", headers={"authorization": said})
    assert (answer.status, answer.code) == (401, "token-refused")


def test_a_token_in_the_address_counts_for_nothing(shared: ApiSite) -> None:
    assert shared.call("GET", f"/v1/me?token={shared.tokens['viewer']}", role="").status == 401


def test_a_token_is_good_for_so_many_days(site: ApiSite) -> None:
    began = site.clock.time
    for days in (1, 2):
        token = site.vamt.access.make_token(ADA, "viewer", days=days)
        for passed, status in ((days * DAY - 1, 200), (days * DAY, 401), (days * DAY + 1, 401)):
            site.clock.time = began + passed
            assert site.call("GET", "/v1/me", headers={"authorization": f"Bearer {token}"}).status == status
        site.clock.time = began


@pytest.mark.parametrize(("days", "status"), [(0, 400), (1, 201), (3650, 201), (3651, 400)])
def test_how_long_a_token_may_be_good(shared: ApiSite, days: int, status: int) -> None:
    assert shared.call("POST", "/v1/people/viewer/tokens", {"days": days}).status == status


def test_a_revoked_token_and_a_removed_person_are_refused_at_once(site: ApiSite) -> None:
    made = site.call("POST", "/v1/people/viewer/tokens", {"label": "script"}).json
    bearer = {"authorization": f"Bearer {made['token']}"}
    assert site.call("GET", "/v1/me", headers=bearer).json["name"] == "viewer"
    listed = {one["id"]: one for one in site.call("GET", "/v1/tokens").json}
    assert listed[made["id"]]["label"] == "script"
    assert site.call("DELETE", f"/v1/tokens/{made['id']}").status == 200
    assert site.call("GET", "/v1/me", headers=bearer).status == 401
    assert site.call("DELETE", f"/v1/tokens/{made['id']}").code == "token-unknown"
    assert site.call("DELETE", "/v1/people/viewer").status == 200
    assert site.call("GET", "/v1/me", role="viewer").status == 401


def test_a_role_that_was_changed_counts_at_once(site: ApiSite) -> None:
    assert site.call("POST", "/v1/groups", {"group": "g"}, role="viewer").status == 403
    site.call("PUT", "/v1/people/viewer", {"role": "operator"})
    assert site.call("POST", "/v1/groups", {"group": "g"}, role="viewer").status == 201


WRONG = {"authorization": "Bearer vamt_" + "A" * 43}


def test_ten_wrong_tokens_a_minute_then_the_source_waits(site: ApiSite) -> None:
    statuses = [site.call("GET", "/v1/me", headers=WRONG).status for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    refused = site.call("GET", "/v1/me", headers=WRONG)
    assert (refused.code, refused.headers["retry-after"]) == ("too-many-requests", "6")
    assert site.call("GET", "/v1/me", headers=WRONG, address="127.0.0.2").status == 401, "another source"
    assert site.call("GET", "/v1/me", role="viewer").status == 429, "a token not seen before has to wait, too"
    site.clock.time += MINUTE // 10
    assert site.call("GET", "/v1/me", role="viewer").status == 200
    for _ in range(3):
        site.call("GET", "/v1/me", headers=WRONG)
    assert site.call("GET", "/v1/me", role="viewer").status == 200, "who works already works on"


# --- 3: bodies, errors, pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/nothing", None, 404, "not-found"),
        ("GET", "/schema", None, 404, "not-found"),
        ("GET", "/schema/swagger", None, 404, "not-found"),
        ("GET", "/", None, 404, "not-found"),
        ("PATCH", "/v1/machines", None, 405, "method-not-allowed"),
        ("POST", "/v1/groups", b"{", 400, "request-malformed"),
        ("POST", "/v1/groups", b"", 400, "request-malformed"),
        ("POST", "/v1/groups", [], 400, "request-malformed"),
        ("POST", "/v1/groups", {"group": 1}, 400, "request-malformed"),
        ("POST", "/v1/groups", {"group": "g", "more": 1}, 400, "request-malformed"),
        ("POST", "/v1/groups", {"group": "x" * 301}, 400, "request-malformed"),
        ("POST", "/v1/groups", {"group": "a\0b"}, 400, "request-malformed"),
        ("POST", "/v1/groups", b'{"group": "\xff"}', 400, "request-malformed"),
        ("POST", "/v1/groups", b'{"group": "\\ud800"}', 400, "request-malformed"),
        ("POST", "/v1/groups", b'{"group": ' + b"[" * 100_000, 400, "request-malformed"),
        ("POST", "/v1/groups", b"[" * 100_000 + b"]" * 100_000, 400, "request-malformed"),
        ("GET", "/v1/machines?where=name%3D%00", None, 400, "request-malformed"),
        ("GET", "/v1/machines/%00", None, 400, "request-malformed"),
        ("GET", "/v1/machines/%ff", None, 400, "request-malformed"),
        ("GET", "/v1/machines?where=colour%3Dred", None, 422, "filter-malformed"),
        ("GET", "/v1/machines?sort=colour", None, 400, "request-malformed"),
        ("GET", "/v1/machines/none", None, 404, "machine-unknown"),
        ("POST", "/v1/collections", {}, 400, "request-malformed"),
        ("POST", "/v1/collections", {"selection": ALL}, 422, "selection-empty"),
        ("POST", "/v1/collections", {"selection": {}}, 422, "selection-empty"),
        ("POST", "/v1/machines", {"name": "a b"}, 400, "request-malformed"),
        ("GET", "/v1/log?since=yesterday", None, 400, "request-malformed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_problem_document(
    shared: ApiSite, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = shared.call(method, path, body)
    assert (answer.status, answer.code) == (status, code), answer
    assert set(answer.json) >= {"type", "title", "status", "detail", "code", "next"}


def test_which_methods_a_path_takes(shared: ApiSite) -> None:
    assert shared.call("POST", "/v1/machines/x").headers["allow"] == "DELETE, GET, OPTIONS"


def test_a_body_has_at_most_a_mebibyte(shared: ApiSite) -> None:
    room = http.MAX_BODY - len(json.dumps({"group": ""}))
    assert shared.call("POST", "/v1/groups", {"group": "x" * room}).code == "request-malformed"
    assert shared.call("POST", "/v1/groups", {"group": "x" * (room + 1)}).code == "body-too-large"


@pytest.mark.parametrize(
    ("limit", "status"), [(0, 400), (1, 200), (MOST_PAGE - 1, 200), (MOST_PAGE, 200), (MOST_PAGE + 1, 400)]
)
@pytest.mark.parametrize("path", ["machines", "log", "lists"])
def test_how_large_a_page_may_be(shared: ApiSite, path: str, limit: int, status: int) -> None:
    assert MOST_PAGE == 1000
    assert shared.call("GET", f"/v1/{path}?limit={limit}").status == status


def test_pages_hold_all_rows_once(site: ApiSite) -> None:
    text = "name\n" + "".join(f"pc{number:02}\n" for number in range(25))
    site.ended(site.call("POST", "/v1/discoveries/file", {"kind": "csv", "name": "l", "text": text}))
    pages = [
        site.call("GET", f"/v1/machines?limit=10&offset={offset}&sort=-name").json
        for offset in (0, 10, 20, 30)
    ]
    assert [len(page["rows"]) for page in pages] == [10, 10, 5, 0]
    assert {page["total"] for page in pages} == {25}
    names = [row["name"] for page in pages for row in page["rows"]]
    assert names == [f"pc{number:02}" for number in reversed(range(25))]


def test_a_name_with_anything_in_it_has_an_address(shared: ApiSite) -> None:
    for name in ("a/b", "ä ü", "100%25", "a%2Fb", "?x=1", "#", "..", "<script>"):
        made = shared.call("POST", "/v1/groups", {"group": name})
        assert made.status == 201, (name, made)
        quoted = "".join(f"%{byte:02X}" for byte in name.encode())
        assert shared.call("DELETE", f"/v1/groups/{quoted}").json == {"count": 1}, name


# --- two persons, one machine ------------------------------------------------------------------------------------


def test_who_changes_what_somebody_else_has_changed_is_told_how_it_is_now(site: ApiSite) -> None:
    site.call("POST", "/v1/machines", {"name": "web1.example.com"})
    seen = site.call("GET", "/v1/machines/web1")
    etag = seen.headers["etag"]
    assert site.call("GET", "/v1/machines/web1", headers={"if-none-match": etag}).status == 304
    mine = {"if-match": etag}
    assert (
        site.call("PUT", "/v1/machines/web1/note", {"text": "otto"}, role="operator", headers=mine).status
        == 200
    )
    late = site.call("PUT", "/v1/machines/web1/note", {"text": "ada"}, headers=mine)
    assert (late.status, late.code) == (412, "changed-meanwhile")
    assert late.json["current"]["notes"] == "otto"
    assert site.call("DELETE", "/v1/machines/web1", headers=mine).status == 412
    keys = {"host_keys": ["ssh-ed25519 " + "A" * 68]}
    assert site.call("PUT", "/v1/machines/web1/host-keys", keys, headers=mine).status == 412
    now = site.call("GET", "/v1/machines/web1")
    assert (now.json["notes"], now.json["host_keys"]) == ("otto", [])
    again = {"if-match": now.headers["etag"]}
    assert site.call("PUT", "/v1/machines/web1/note", {"text": "ada"}, headers=again).status == 200
    assert site.call("PUT", "/v1/machines/web1/note", {"text": "the last one"}).status == 200, (
        "who does not ask"
    )
    assert site.call("DELETE", "/v1/machines/web1", headers={"if-match": "*"}).status == 200


# --- files -------------------------------------------------------------------------------------------------------


def test_a_table_goes_out_and_no_cell_is_a_formula(site: ApiSite) -> None:
    site.call("POST", "/v1/machines", {"name": "web1", "note": "=1+1"})
    site.call("POST", "/v1/groups", {"group": "=cmd"})
    site.call("POST", "/v1/groups/%3Dcmd/add", ALL)
    for kind, begins in (("csv", b"id,name"), ("xlsx", b"PK"), ("json", b"[")):
        answer = site.call("GET", f"/v1/tables/machines?kind={kind}", role="viewer")
        assert answer.status == 200
        assert answer.body.startswith(begins)
        assert f'.{kind}"' in answer.headers["content-disposition"]
        if kind == "csv":
            assert b",'=cmd," in answer.body
    assert site.call("GET", "/v1/tables/log?where=x").code == "request-malformed"
    carried = [one["what"] for one in site.call("GET", "/v1/log").json if one["action"] == "export-table"]
    assert [one["kind"] for one in carried] == ["json", "xlsx", "csv"]


def test_an_old_list_in_xml_comes_in_and_bombs_do_not(site: ApiSite) -> None:
    xml = b"<SoftwareLicensingData><Computers><Computer Name='pc1'/></Computers></SoftwareLicensingData>"
    assert site.call("POST", "/v1/imports?name=old.cil", xml).json["machines"] == 1
    bomb = b"<!DOCTYPE x [<!ENTITY a 'b'>]><SoftwareLicensingData>&a;</SoftwareLicensingData>"
    assert site.call("POST", "/v1/imports", bomb).code == "list-malformed"
    assert site.call("POST", "/v1/imports", b"").code == "document-refused"


# --- keys (M8) ---------------------------------------------------------------------------------------------------


def test_a_product_key_is_kept_sealed_and_told_by_its_label_alone(tmp_path: Path, api_template: Path) -> None:
    publisher = Publisher()
    with ApiSite(tmp_path / "home", api_template, sealed=True) as site:
        file = publisher.product_file().decode()
        taught = site.call("POST", "/v1/publishers", {"root": publisher.pub, "file": file})
        assert taught.status == 200, taught
        key = publisher.key()
        made = site.call("POST", "/v1/keys", {"keys": key.text(), "product": taught.json["product"]})
        assert made.status == 201, made
        label = key.label
        assert [one["label"] for one in made.json] == [label]
        said = [made.body]
        for method, path in (
            ("GET", "/v1/keys"),
            ("GET", f"/v1/keys/{label}"),
            ("GET", "/v1/log"),
            ("GET", "/v1/undertakings"),
        ):
            said.append(site.call(method, path).body)
        mistyped = key.text()[:-1] + ("A" if key.text()[-1] != "A" else "B")
        said.append(site.call("POST", "/v1/keys", {"keys": mistyped, "product": "x.y"}).body)
        whole = key.text().replace("-", "").encode()
        for one in said:
            assert whole[:10] not in one.replace(b"-", b"")
        for stored in site.opened.folder.rglob("*"):
            assert not stored.is_file() or whole not in stored.read_bytes().replace(b"-", b"")
        assert site.call("DELETE", f"/v1/keys/{label}").json == {"count": 1}


def test_without_the_seal_s_passphrase_the_service_says_how_to_give_it(
    tmp_path: Path, api_template: Path
) -> None:
    with ApiSite(tmp_path / "home", api_template) as site:
        sealing.set_up(site.opened.folder, PASSPHRASE)
        refused = site.call(
            "POST", "/v1/keys", {"keys": Publisher().key().text(), "product": "com.example.cad"}
        )
        assert (refused.status, refused.code) == (409, "passphrase-missing")


# --- the rest ----------------------------------------------------------------------------------------------------


def test_the_description_that_is_checked_in_is_the_one_of_the_routes(shared: ApiSite) -> None:
    """`scripts/gen_openapi.py > docs/openapi-vamt.json` writes it again."""
    served = shared.call("GET", "/v1/openapi.json", role="").body
    assert served == (ROOT / "docs" / "openapi-vamt.json").read_bytes()
    document = json.loads(served)
    assert document["openapi"].startswith("3.1")
    described = {(method.upper(), path) for path, one in document["paths"].items() for method in one}
    assert len(described) == len(api.ROUTES)


def test_the_same_on_postgresql(
    tmp_path: Path, api_template: Path, databases: Databases, server: postgres.Postgres
) -> None:
    """What a text may hold is the stricter there, and so are locks."""
    url = str(databases.postgresql(server))
    environ = {"VOLACT_HOME": str(tmp_path / "other"), "VOLACT_VAMT_DATABASE": url}
    setup.initialise("VAMT", environ)
    with ApiSite(tmp_path / "home", tmp_path / "other", database=url) as site:
        once = {"idempotency-key": "k1"}
        first = site.call("POST", "/v1/machines", {"name": "web1.example.com", "group": "g"}, headers=once)
        assert (
            first.body
            == site.call(
                "POST", "/v1/machines", {"name": "web1.example.com", "group": "g"}, headers=once
            ).body
        )
        etag = site.call("GET", "/v1/machines/web1").headers["etag"]
        assert (
            site.call("PUT", "/v1/machines/web1/note", {"text": "x"}, headers={"if-match": etag}).status
            == 200
        )
        assert (
            site.call("PUT", "/v1/machines/web1/note", {"text": "y"}, headers={"if-match": etag}).status
            == 412
        )
        assert site.call("GET", "/v1/machines?where=name%3Da%00").status == 400


@pytest.mark.parametrize(
    ("listen", "port", "expected"),
    [
        ("", None, ("127.0.0.1", 1689)),
        ("", 0, ("127.0.0.1", 0)),
        ("", 65535, ("127.0.0.1", 65535)),
        ("[::1]:5", None, ("::1", 5)),
        ("", 65536, None),
        ("", -1, None),
        ("127.0.0.1:5", 6, None),
        ("nothing", None, None),
    ],
)
def test_where_it_listens(
    shared: ApiSite, listen: str, port: int | None, expected: tuple[str, int] | None
) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            serving.place(shared.opened, listen, port)
    else:
        assert serving.place(shared.opened, listen, port) == expected


def test_what_fails_beside_the_service_is_said_once_and_tried_again() -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        if len(tries) in (1, 2, 4):
            raise Refused(Refusal("passphrase-missing", "x"))

    ticking = serving.Ticking("test", 1, [work])
    with capture_logs() as logs:
        for _ in range(4):
            ticking.do(work)
    assert len(tries) == 4
    assert [one["code"] for one in logs] == ["passphrase-missing"] * 2
