"""V6: every route of the API with every role. The whole table, written down independently of the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vamt.api_site import ROLES, ApiSite
from volact.protocol.policy import MINUTE
from volact.vamt.api import app as api

ALL = {"all": True}
ROW = "A" * 43

# One column a role: viewer, operator, key administrator, auditor. Whether they are let in; what comes of it besides is
# another test's: nearly all of these ask for something that is not there.
TABLE: list[tuple[str, str, str, Any]] = [
    ("x x x x", "GET", "/v1/me", None),
    ("x x x x", "GET", "/v1/machines", None),
    ("x x x x", "GET", "/v1/machines/none", None),
    ("x x x x", "GET", "/v1/machines/none/history", None),
    ("- x x -", "POST", "/v1/machines", {"name": "web1.example.com"}),
    ("- x x -", "PUT", "/v1/machines/none/note", {"text": "x"}),
    ("- - x -", "PUT", "/v1/machines/none/host-keys", {"host_keys": ["ssh-ed25519 " + "A" * 68]}),
    ("- x x -", "DELETE", "/v1/machines/none", None),
    ("- x x -", "POST", "/v1/selections/note", {"selection": {"machines": ["none"]}, "text": "x"}),
    ("- x x -", "POST", "/v1/selections/remove", {"machines": ["none"]}),
    ("x x x x", "POST", "/v1/selections/recommend", {"selection": {"machines": ["none"]}}),
    ("- x x -", "POST", "/v1/selections/reactivate", {"selection": {"machines": ["none"]}}),
    ("x x x x", "GET", "/v1/fields", None),
    ("x x x x", "GET", "/v1/groups", None),
    ("- x x -", "POST", "/v1/groups", {"group": "new"}),
    ("- x x -", "DELETE", "/v1/groups/none", None),
    ("- x x -", "POST", "/v1/groups/none/add", ALL),
    ("- x x -", "POST", "/v1/groups/none/remove", ALL),
    ("x x x x", "GET", "/v1/views", None),
    ("x x x -", "PUT", "/v1/views/mine", {"where": "nothing=1"}),
    ("x x x -", "DELETE", "/v1/views/none", None),
    ("x x x x", "GET", "/v1/publishers", None),
    ("- - x -", "POST", "/v1/publishers", {"root": ROW, "file": "{}"}),
    ("x x x x", "GET", f"/v1/publishers/{ROW}/status-list", None),
    ("x x x x", "GET", "/v1/keys", None),
    ("x x x x", "GET", "/v1/keys/M0000", None),
    ("- - x -", "POST", "/v1/keys", {"keys": "none", "product": "com.example.cad"}),
    ("- - x -", "DELETE", "/v1/keys/M0000", None),
    ("- x x -", "POST", "/v1/key-refreshes", {"keys": ["M0000"]}),
    ("x x x x", "GET", "/v1/advice", None),
    ("- x x -", "POST", "/v1/collections", {"selection": {"machines": ["none"]}}),
    ("- x x -", "POST", "/v1/discoveries/ldap", {"url": "x", "base": "y", "group": " wrong"}),
    ("- x x -", "POST", "/v1/discoveries/dns", {"zone": "x", "server": "y", "group": " wrong"}),
    ("- x x -", "POST", "/v1/discoveries/addresses", {"ranges": "wrong"}),
    ("- x x -", "POST", "/v1/discoveries/file", {"kind": "csv", "name": "x", "text": ""}),
    ("x x x x", "GET", "/v1/undertakings", None),
    ("x x x x", "GET", "/v1/undertakings/none", None),
    ("x x x x", "GET", "/v1/undertakings/none/rows", None),
    ("x x x x", "GET", "/v1/undertakings/none/file", None),
    ("x x x x", "POST", "/v1/undertakings/none/stop", None),
    ("x x x x", "POST", "/v1/actions/plan", {"action": "set-host", "selection": ALL}),
    ("- x x -", "POST", "/v1/actions", {"action": "refresh-status", "selection": {"machines": ["none"]}}),
    ("x x x x", "GET", "/v1/actions", None),
    ("x x x x", "GET", "/v1/actions/none", None),
    ("x x x x", "POST", "/v1/actions/none/resume", {}),
    ("x x x x", "GET", "/v1/queue", None),
    ("- x x -", "POST", "/v1/queue/run", {}),
    ("- x x -", "POST", "/v1/queue/cancel", {"every": True}),
    ("x x x x", "GET", "/v1/schedules", None),
    ("- x x -", "POST", "/v1/schedules", {"name": "x", "what": "collect", "selection": {"machines": ["none"]}, "every": "1d"}),
    ("- x x -", "DELETE", "/v1/schedules/none", None),
    ("x x x x", "GET", "/v1/lists", None),
    ("- x x -", "POST", "/v1/lists", {"selection": {"machines": ["none"]}, "publisher": ROW}),
    ("x x x x", "GET", "/v1/lists/none", None),
    ("- x x -", "POST", "/v1/lists/none/answers", None),
    ("- x x -", "POST", "/v1/lists/none/acquire", None),
    ("- x x -", "POST", "/v1/lists/none/apply", {}),
    ("x x x x", "GET", "/v1/writers", None),
    ("- - x -", "PUT", f"/v1/writers/{ROW}", {"trusted": False}),
    ("- x x -", "POST", "/v1/imports", b"nothing that could be taken in"),
    ("x x x x", "GET", "/v1/tables/machines", None),
    ("- - x x", "GET", "/v1/tables/log", None),
    ("x x x x", "GET", "/v1/people", None),
    ("- - x -", "PUT", "/v1/people/zoe", {"role": "viewer"}),
    ("- - x -", "DELETE", "/v1/people/none", None),
    ("- - x -", "POST", "/v1/people/none/tokens", {}),
    ("- - x x", "GET", "/v1/tokens", None),
    ("- - x -", "DELETE", "/v1/tokens/none", None),
    ("- - x x", "GET", "/v1/log", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, api_template: Path) -> Iterator[ApiSite]:
    with ApiSite(tmp_path_factory.mktemp("site") / "home", api_template) as made:
        yield made


@pytest.mark.parametrize(
    ("marks", "method", "path", "body"), TABLE, ids=[f"{one[1]} {one[2]}" for one in TABLE]
)
def test_who_may_do_what(site: ApiSite, marks: str, method: str, path: str, body: Any) -> None:
    found = {}
    for role in ROLES:
        answer = site.call(method, path, body, role=role)
        assert answer.status < 500, answer
        is_refused = answer.status == 403 and answer.code == "role-insufficient"
        found[role] = "-" if is_refused else "x"
    assert " ".join(found.values()) == marks
    assert site.call(method, path, body, role="").status == 401


def test_the_table_is_whole() -> None:
    routes = {(method, path) for one in api.ROUTES for method in one.http_methods for path in one.paths}
    for method, path in routes:
        pattern = re.compile("/v1" + re.sub(r"\{[^}]*\}", "[^/]+", path))
        assert [one for one in TABLE if one[1] == method and pattern.fullmatch(one[2])], (method, path)


def test_who_was_not_let_in_is_in_the_log(site: ApiSite) -> None:
    site.clock.time += MINUTE  # of one person only so many a minute are
    site.call("POST", "/v1/collections", {"selection": ALL}, role="viewer")
    newest = site.call("GET", "/v1/log?limit=1").json[0]
    assert (newest["who"], newest["action"], newest["result"]) == ("viewer", "collect", "role-insufficient")
