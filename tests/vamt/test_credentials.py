"""Logins as they are kept: open what may be seen, sealed what is secret (V2, T28)."""

import asyncssh
import pytest

from volact.protocol.problems import BrokenData, Refused
from volact.vamt.collecting.targets import Jump, Login
from volact.vamt.credentials import Kept, is_sealed, keep, login
from volact.vamt.sealing import Sealer

KEY = asyncssh.generate_private_key("ssh-ed25519")
PEM = KEY.export_private_key("openssh").decode()
SEALED_PEM = KEY.export_private_key("pkcs8-pem", "canary-passphrase").decode()
CERTIFICATE = KEY.generate_user_certificate(KEY, "vamt").export_certificate().decode()
SEALER = Sealer(bytes(range(32)))
JUMP = Jump("gate.corp.example", 2222, ("ssh-ed25519 AAAA",))
LOGINS = [
    (Login("vamt", key=PEM), "key"),
    (Login("vamt", key=SEALED_PEM, passphrase="canary-passphrase", certificate=CERTIFICATE), "certificate"),
    (Login("corp\\vamt", password="canary-password", ca="-----BEGIN", plain=True), "password"),
    (
        Login("vamt", agent="/run/agent", key_file="/home/vamt/id", password="canary-password"),
        "key+agent+password",
    ),
    (Login("vamt", key_file="/home/vamt/id", command=("sudo", "/opt/volact")), "key"),
    (Login("vamt", key_file="/home/vamt/id", jump=JUMP), "key"),
    (
        Login(
            "vamt", key_file="/home/vamt/id", jump=JUMP._replace(login=Login("gate", password="canary-gate"))
        ),
        "key",
    ),
    (Login("vamt", key=PEM, jump=JUMP._replace(login=Login("gate", agent="/run/agent"))), "key"),
]


@pytest.mark.parametrize(("whose", "proof"), LOGINS)
def test_a_login_comes_back_as_it_was_kept(whose: Login, proof: str) -> None:
    kept = keep("web", whose, SEALER)
    assert kept.kind == proof
    assert kept.account == whose.user
    assert login("web", kept, SEALER) == whose


@pytest.mark.parametrize(("whose", "_proof"), LOGINS)
def test_nothing_secret_is_open_or_shown(whose: Login, _proof: str) -> None:
    kept = keep("web", whose, SEALER)
    through = whose.jump.login if whose.jump and whose.jump.login else Login()
    secrets = [one for who in (whose, through) for one in (who.password, who.key, who.passphrase) if one]
    for text in (str(kept), repr(whose), str(whose), f"{whose}"):
        assert not [one for one in secrets if one in text or (one[80:] and one[40:80] in text)]
        assert "canary" not in text
    assert is_sealed(kept) is bool(secrets)


def test_what_holds_no_secret_needs_no_seal() -> None:
    whose = Login("vamt", key_file="/home/vamt/id")
    kept = keep("web", whose, None)
    assert login("web", kept, None) == whose


def test_a_secret_is_not_kept_without_a_seal_and_not_opened_without_it() -> None:
    with pytest.raises(Refused) as refused:
        keep("web", Login("vamt", password="canary"), None)
    assert refused.value.refusal.code == "not-set-up"
    kept = keep("web", Login("vamt", password="canary"), SEALER)
    with pytest.raises(Refused) as refused:
        login("web", kept, None)
    assert refused.value.refusal.code == "passphrase-missing"


@pytest.mark.parametrize(
    "whose",
    [
        Login("vamt"),
        Login("vamt", key="no key"),
        Login("vamt", key=SEALED_PEM),
        Login("vamt", key=SEALED_PEM, passphrase="wrong"),
        Login("vamt", certificate=CERTIFICATE),
        Login("vamt", certificate=CERTIFICATE, agent="/run/agent"),
        Login("vamt", key=PEM, certificate="no certificate"),
        Login("vamt", key=PEM, jump=JUMP._replace(login=Login("gate"))),
    ],
)
def test_what_could_let_nobody_in_is_refused_when_it_is_entered(whose: Login) -> None:
    with pytest.raises(Refused) as refused:
        keep("web", whose, SEALER)
    assert refused.value.refusal.code == "login-unusable"


@pytest.mark.parametrize(
    "change",
    [
        {"options": "{"},
        {"options": "[]"},
        {"options": '{"colour": "red"}'},
        {"options": '{"jump": {}}'},
        {"options": '{"jump": {"host": "x", "colour": 1}}'},
        {"sealed": "1.AAAA"},
        {"sealed": SEALER.seal("other", b"{}")},
        {"sealed": SEALER.seal("web", b"[]")},
        {"sealed": SEALER.seal("web", b"\xff")},
    ],
)
def test_a_damaged_row_is_said(change: dict[str, str]) -> None:
    kept: Kept = keep("web", Login("vamt", password="canary"), SEALER)._replace(**change)
    with pytest.raises(BrokenData) as broken:
        login("web", kept, SEALER)
    assert "canary" not in str(broken.value)
