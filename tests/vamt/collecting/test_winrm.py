"""WinRM against the stand-in of RIGS.md: what is read, and what a hostile machine cannot do. No real Windows (V2, T26, T29)."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vamt.collecting.standins import code, outcomes
from vamt.collecting.winrm_standin import PASSWORD, USER, WinRmStandIn, envelope
from volact.vamt.collecting.targets import Limits, Login, Outcome, Target

pytestmark = pytest.mark.sockets
PRODUCT = {
    "ID": "2de67392-b7a7-462a-b1ca-108dd189f588",
    "Name": "Windows(R), Professional edition",
    "LicenseStatus": "5",
    "PartialProductKey": "3V66T",
    "ProductKeyChannel": "Volume:MAK",
}
ROWS = {
    "SoftwareLicensingProduct": [PRODUCT],
    "SoftwareLicensingService": [
        {"Version": "10.0.1", "ClientMachineID": "a0e1c0de-0000-4000-8000-000000000001"}
    ],
    "Win32_ComputerSystem": [{"Name": "DESK7", "Domain": "corp.example", "PartOfDomain": "true"}],
    "Win32_OperatingSystem": [{"Caption": "Microsoft Windows 11 Pro", "Version": "10.0.22631"}],
    "Win32_ComputerSystemProduct": [{"UUID": "4C4C4544-0043-4E10-8057-B7C04F573233"}],
}


@pytest.fixture(autouse=True)
def _accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the acceptor lets in."""
    file = tmp_path / "ntlm"
    file.write_text(f":{USER}:{PASSWORD}\n")
    monkeypatch.setenv("NTLM_USER_FILE", str(file))


def ask(machine: WinRmStandIn, *, limits: Limits | None = None, **change: Any) -> Outcome:
    login = machine.login._replace(**change)
    (found,) = asyncio.run(outcomes([machine.target], {"": login}, limits or Limits(whole=10.0)))
    return found


def test_over_encrypted_messages() -> None:
    with WinRmStandIn(ROWS) as machine:
        report = ask(machine).report
        assert report is not None
        assert (report.name, report.domain, report.platform) == ("desk7", "corp.example", "windows")
        assert report.system == "Microsoft Windows 11 Pro 10.0.22631"
        (product,) = report.products
        assert (product.publisher, product.product) == ("microsoft", "Windows(R), Professional edition")
        assert (product.state, product.channel, product.partial_key) == (5, "Volume:MAK", "3V66T")
        assert product.cmid == "a0e1c0de-0000-4000-8000-000000000001"
        assert machine.queries[0] == (
            "SELECT * FROM SoftwareLicensingProduct WHERE PartialProductKey IS NOT NULL OR LicenseStatus <> 0"
        )
        sent = [one for one in machine.bodies if one]
        assert len(sent) == 5
        assert all(
            one.startswith(b"--Encrypted Boundary\r\n\tContent-Type") and b"SELECT" not in one for one in sent
        )


def test_over_tls_with_the_ca_of_the_login(tmp_path: Path) -> None:
    with WinRmStandIn(ROWS, tls=tmp_path / "tls") as machine:
        report = ask(machine).report
        assert report is not None
        assert report.name == "desk7"


def test_a_list_in_parts() -> None:
    many = [PRODUCT | {"ID": f"id{n}", "Name": f"Product {n}"} for n in range(45)]
    with WinRmStandIn(ROWS | {"SoftwareLicensingProduct": many}) as machine:
        report = ask(machine).report
        assert report is not None
        assert [one.product for one in report.products] == [f"Product {n}" for n in range(45)]


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"user": "stranger"}, {"user": f"corp\\{USER}"}])
def test_who_is_not_let_in(change: dict[str, Any]) -> None:
    with WinRmStandIn(ROWS) as machine:
        assert code(ask(machine, **change)) == "credential-refused"


@pytest.mark.parametrize("schemes", ["Basic realm=x", "Digest realm=x", ""])
def test_never_by_http_s_basic_authentication(schemes: str) -> None:
    with WinRmStandIn(ROWS, schemes=schemes) as machine:
        assert code(ask(machine)) == "credential-refused"
        assert not [one for one in machine.headers if one]
        assert not [one for one in machine.bodies if one]


def test_a_certificate_of_nobody_we_trust_gets_nothing(tmp_path: Path) -> None:
    with WinRmStandIn(ROWS, tls=tmp_path / "tls") as machine:
        found = ask(machine, ca="")
        assert code(found) == "certificate-untrusted"
        assert found.refusal is not None
        assert "self-signed certificate" in found.refusal.detail
        assert machine.headers == []


def test_classes_that_the_account_may_not_read() -> None:
    with WinRmStandIn(ROWS, denied=["Win32_ComputerSystem", "Win32_ComputerSystemProduct"]) as machine:
        report = ask(machine).report
        assert report is not None
        assert (report.name, report.identity, report.system) == (
            "",
            "",
            "Microsoft Windows 11 Pro 10.0.22631",
        )
    with WinRmStandIn(ROWS, denied=["SoftwareLicensingProduct"]) as machine:
        found = ask(machine)
        assert code(found) == "credential-refused"
        assert found.refusal is not None
        assert found.refusal.detail == "SoftwareLicensingProduct: Access is denied."


def test_a_machine_that_is_not_there() -> None:
    login = {"": Login(USER, password=PASSWORD, plain=True)}
    targets = [
        Target("port", ("127.0.0.1",), 1, "winrm"),
        Target("name", ("nowhere.invalid",), 1, "winrm"),
        Target("none", (), 1, "winrm"),
    ]
    found = {one.target.mid: code(one) for one in asyncio.run(outcomes(targets, login))}
    assert found == {"port": "unreachable-port", "name": "unreachable-name", "none": "unreachable-name"}


def _flood(handler: Any, _asked: bytes) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Type", 'multipart/encrypted;boundary="Encrypted Boundary"')
    handler.send_header("Content-Length", str(1 << 30))
    handler.end_headers()
    try:
        for _ in range(1 << 14):
            handler.wfile.write(b"x" * (1 << 16))
    except OSError:
        handler.own.flood_ended = True
    handler.close_connection = True
    return True


def _drip(handler: Any, _asked: bytes) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Type", 'multipart/encrypted;boundary="Encrypted Boundary"')
    handler.send_header("Content-Length", str(1 << 20))
    handler.end_headers()
    try:
        for _ in range(400):
            handler.wfile.write(b"x")
            time.sleep(0.05)  # the machine's, not the test's
    except OSError:
        pass
    handler.close_connection = True
    return True


def _clear(handler: Any, asked: bytes) -> bool:
    """A whole and fitting answer, which anybody on the way could have written."""
    handler.give(200, {"Content-Type": "application/soap+xml;charset=UTF-8"}, handler.answer(asked)[1])
    return True


def _with_dtd(handler: Any, asked: bytes) -> bool:
    handler.tell(200, b"<!DOCTYPE s>" + handler.answer(asked)[1])
    return True


def _with_dtd_in_utf_16(handler: Any, asked: bytes) -> bool:
    handler.tell(200, ("<!DOCTYPE s>" + handler.answer(asked)[1].decode()).encode("utf-16"))
    return True


def _redirect(handler: Any, _asked: bytes) -> bool:
    port = handler.server.server_address[1]
    handler.give(307, {"Location": f"http://127.0.0.1:{port}/elsewhere"})
    return True


def _says(data: bytes) -> Callable[[Any, bytes], bool]:
    def instead(handler: Any, _asked: bytes) -> bool:
        handler.tell(200, data)
        return True

    return instead


def _endless(handler: Any, asked: bytes) -> bool:
    message = asked.partition(b"<wsa:MessageID>")[2].partition(b"<")[0].decode()
    kind = "Pull" if b"wsen:Pull" in asked else "Enumerate"
    more = "<n:EnumerationContext>uuid:9</n:EnumerationContext><w:Items/>"
    handler.tell(200, envelope(message, f"<n:{kind}Response>{more}</n:{kind}Response>"))
    return True


BOMB = b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 1000 + b'">]><s:Envelope>' + b"&b;" * 10_000 + b"</s:Envelope>"


@pytest.mark.parametrize(
    ("instead", "wanted"),
    [
        (_flood, "answer-too-long"),
        (_clear, "answer-nonsense"),
        (_with_dtd, "answer-nonsense"),
        (_with_dtd_in_utf_16, "answer-nonsense"),
        (_redirect, "answer-nonsense"),
        (_endless, "answer-nonsense"),
        (_says(b""), "answer-nonsense"),
        (_says(b"\x1b[2Jhello"), "answer-nonsense"),
        (_says(b"<a>" * 50_000), "answer-nonsense"),
        (_says(BOMB), "answer-nonsense"),
        (_says(BOMB.decode().encode("utf-16")), "answer-nonsense"),
        (_says(envelope("uuid:another", "")), "answer-nonsense"),
        (
            lambda handler, _: (
                handler.give(200, {"Content-Type": "multipart/encrypted;boundary=x"}, b"y") or True
            ),
            "answer-nonsense",
        ),
        (lambda handler, _: handler.give(503, {}) or True, "answer-nonsense"),
    ],
    ids="flood clear dtd dtd16 redirect endless nothing noise deep bomb utf16-bomb another mime status".split(),
)
def test_hostile_machines(instead: Callable[[Any, bytes], bool], wanted: str) -> None:
    with WinRmStandIn(ROWS, instead=instead) as machine:
        found = ask(machine)
        assert code(found) == wanted
        assert found.refusal is not None
        assert found.refusal.detail.isprintable()


def test_a_machine_that_drips_is_held_to_the_time_limit() -> None:
    with WinRmStandIn(ROWS, instead=_drip) as machine:
        assert code(ask(machine, limits=Limits(whole=1.0))) == "timed-out"
        end = time.monotonic() + 10
        while [one for one in threading.enumerate() if one.name == "winrm"]:
            assert time.monotonic() < end  # the thread that read is let go too
            time.sleep(0.01)
