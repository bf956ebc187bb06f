"""VAMT's commands: set up as an ordinary user would, called rightly and wrongly, in this process (V6, V9)."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import postgres
from client.publisher import Publisher
from vamt.collecting.standins import PRIVATE
from volact import config
from volact.config import SettingInvalid
from volact.protocol.problems import Refused, VolactError
from volact.vamt import cli, setup
from world import NOW

Run = Callable[..., tuple[int, Any, str]]
PASSPHRASE = "a passphrase that nobody prints"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOLACT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command with --json: exit code, its one JSON value, and what it said on standard error."""

    def command(*words: str) -> tuple[int, Any, str]:
        code = cli.main([*words, "--json"])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, json.loads(said.out), said.err

    return command


@pytest.fixture
def tell(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command tells people."""

    def command(*words: str) -> str:
        assert cli.main([*words]) == 0
        return capsys.readouterr().out

    return command


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a new VAMT, made once."""
    made = tmp_path_factory.mktemp("template")
    setup.initialise("VAMT", {"VOLACT_HOME": str(made)})
    return made


@pytest.fixture
def ready(run: Run, home: Path, template: Path) -> Run:
    """The commands where VAMT is set up."""
    shutil.copytree(template, home)
    return run


# --- setting up -----------------------------------------------------------------------------------------------------


def test_init_makes_a_private_folder_with_a_key_of_its_own(run: Run, home: Path) -> None:
    code, said, _ = run("init", "--name", "Inside")
    assert code == 0
    folder = home / "vamt"
    assert said["folder"] == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("keys/vamt.pem", "tls/key.pem"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    with setup.opened() as opened:
        assert opened.signer.kid == said["fingerprint"]
        assert [path.exists() for path in opened.certificate()] == [True, True]
        assert opened.settings.listen == "127.0.0.1:1689"
    assert sorted(path.name for path in home.iterdir()) == ["vamt"]


def test_a_second_init_changes_nothing(ready: Run) -> None:
    with setup.opened() as opened:
        before = opened.signer.kid
    code, said, _ = ready("init")
    assert (code, said["code"]) == (1, "already-exists")
    with setup.opened() as opened:
        assert opened.signer.kid == before


def test_an_init_that_fails_leaves_nothing(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLACT_VAMT_DATABASE", "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")
    code, said, _ = run("init")
    assert (code, said["code"]) == (4, "storage-unavailable")
    assert list(home.iterdir()) == []


def test_a_vamt_in_postgresql(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, server: postgres.Postgres
) -> None:
    monkeypatch.setenv("VOLACT_VAMT_DATABASE", server.url(server.new_database()))
    assert run("init")[0] == 0
    assert run("machine", "add", "web1")[0] == 0
    assert run("machine", "list")[1]["total"] == 1
    monkeypatch.setenv("VOLACT_HOME", str(home.parent / "second"))
    code, said, _ = run("init")
    assert (code, said["code"]) == (1, "already-exists")
    assert list((home.parent / "second").iterdir()) == []


def test_a_key_that_others_can_read_is_not_used(ready: Run, home: Path) -> None:
    (home / "vamt" / "keys" / "vamt.pem").chmod(0o644)
    code, said, _ = ready("machine", "list")
    assert (code, said["code"]) == (4, "key-file-exposed")


def test_a_setting_that_there_is_none_of(ready: Run, home: Path) -> None:
    (home / "vamt.toml").write_text("at_once = 10\nlissten = 'x'\n")
    code, said, _ = ready("machine", "list")
    assert code == 2
    assert "line 2: there is no setting 'lissten' (did you mean 'listen'?)" in said["detail"]


def test_each_setting_has_a_help() -> None:
    assert set(config.HELP["vamt"]) == set(config.VamtSettings._fields)
    with pytest.raises(SettingInvalid, match="whole number"):
        config.load("vamt", Path("nowhere"), {"VOLACT_VAMT_AT_ONCE": "many"})


# --- every command, called wrongly ----------------------------------------------------------------------------------

COMMANDS = [
    ["publisher", "list"],
    ["machine", "list"],
    ["machine", "add", "web1"],
    ["machine", "show", "web1"],
    ["machine", "remove", "web1"],
    ["machine", "note", "web1", "--text", "x"],
    ["machine", "trust", "web1", "--host-key", f"ssh-ed25519 {'A' * 68}"],
    ["group", "list"],
    ["group", "create", "g"],
    ["view", "list"],
    ["view", "save", "v"],
    ["user", "list"],
    ["user", "add", "zoe", "--role", "viewer"],
    ["user", "token", "zoe"],
    ["log"],
    ["login", "show"],
    ["login", "remove"],
    ["login", "set", "--user", "u", "--key-file", "k"],
    ["seal"],
    ["collect", "--all"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_before_init_every_command_says_so(run: Run, words: list[str]) -> None:
    code, said, _ = run(*words)
    assert (code, said["code"]) == (1, "not-set-up")


WRONG = [
    (["machine", "add", "web_1!"], 2, "'web_1!' is no name or address of a machine."),
    (["machine", "add", ""], 2, "'' is no name or address of a machine."),
    (["machine", "add", "web1", "--address", "192.0.2.300"], 2, "'192.0.2.300' is no address"),
    (["machine", "add", "web1", "--port", "0"], 2, "--port is 1 to 65535."),
    (["machine", "add", "web1", "--port", "65536"], 2, "--port is 1 to 65535."),
    (["machine", "add", "web1", "--port", "1.5"], 2, "no whole number"),
    (["machine", "add", "web1", "--transport", "telnet"], 2, "--transport is one of ssh, winrm, local."),
    (["machine", "add", "web1", "--note", "a\nb"], 2, "--note has at most 1000"),
    (["machine", "list", "--sort", "size"], 2, "There is no order 'size'."),
    (["machine", "list", "--limit", "0"], 2, "--limit is 1 to 100000."),
    (["machine", "list", "--limit", "100001"], 2, "--limit is 1 to 100000."),
    (["machine", "list", "--offset", "-1"], 2, "--offset is the number"),
    (
        ["machine", "list", "--where", "nam=a"],
        1,
        "At character 1: there is no field 'nam'; did you mean 'name'?",
    ),
    (["machine", "list", "--group", "none"], 1, "'none'."),
    (["machine", "list", "--view", "none"], 1, "'none'."),
    (["machine", "show", "nobody"], 1, "'nobody'."),
    (["machine", "remove"], 1, "Nothing was selected."),
    (["machine", "remove", "web1", "--all"], 2, "--all is all machines"),
    (["machine", "remove", "--where", "name=nobody"], 1, "The selection holds no machine."),
    (["machine", "trust", "web1", "--host-key", "AAAA"], 2, "'AAAA' is no SSH host key."),
    (["machine", "trust", "web1", "--host-key", f"ssh-ed25519 {'A' * 39}"], 2, "is no SSH host key."),
    (["machine", "trust", "web1", "--host-key", "@nowhere"], 4, "nowhere: No such file"),
    (["group", "create", " x"], 2, "' x' is no name of a group."),
    (["group", "add", "none", "--all"], 1, "'none'."),
    (["view", "save", "v", "--sort", "size"], 2, "There is no order 'size'."),
    (["user", "add", "zoe", "--role", "root"], 2, "There is no role 'root'."),
    (["user", "token", "nobody"], 1, "'nobody'."),
    (["log", "--since", "yesterday"], 2, "'yesterday' is neither a span nor a time."),
    (["collect"], 1, "Nothing was selected."),
    (["collect", "--resume", "--all"], 2, "--resume goes on"),
    (["collect", "--resume"], 1, "No collection was stopped"),
    (["collect", "--all", "--at-once", "0"], 2, "--at-once is 1 to 2000."),
    (["collect", "--all", "--limit", "3601"], 2, "--limit is 1 to 3600 seconds."),
    (["login", "set", "--user", "u"], 1, "It names no key"),
    (["login", "set", "--user", "u", "--password", "secret"], 2, "--password takes no secret itself."),
    (
        ["login", "set", "--user", "u", "--key-passphrase", "secret"],
        2,
        "--key-passphrase takes no secret itself.",
    ),
    (["login", "set", "--user", "u", "--agent"], 2, "No SSH agent runs here"),
    (
        ["login", "set", "--user", "u", "--key-file", "k", "--jump", "a b"],
        2,
        "'a b' is no [USER@]HOST[:PORT].",
    ),
    (
        ["login", "set", "--user", "u", "--key-file", "k", "--jump-host-key", "x"],
        2,
        "--jump-host-key is the host key",
    ),
    (["login", "set", "--group", "none", "--user", "u", "--key-file", "k"], 1, "'none'."),
    (["login", "remove"], 1, "There is no login of ''."),
    (["seal", "--passphrase", "secret words"], 2, "A passphrase is not given as an argument"),
    (["seal", "--keyring", "--passphrase", "-"], 2, "Give either --passphrase or --keyring."),
    (["publisher", "add", "--root", "P" * 43], 2, "Name a signed product file"),
    (["publisher", "add", "nowhere", "--root", "P" * 43], 4, "nowhere: No such file"),
    (["publisher", "add", "nowhere", "--root", "x"], 2, "'x' is no publisher id and no file."),
    (["init", "--name", "a\x1bb"], 2, "--name has at most 200"),
    (["machin"], 2, 'Unknown command "machin"'),
]


@pytest.mark.parametrize(
    ("words", "code", "said"), WRONG, ids=[" ".join(words)[:60] for words, _, _ in WRONG]
)
def test_a_wrong_call_says_what_is_wrong(ready: Run, words: list[str], code: int, said: str) -> None:
    found = ready(*words)
    assert found[0] == code
    assert said in found[1]["detail"]
    assert found[1]["next"]
    assert "secret" not in found[2].replace("takes no secret", "")


def test_what_is_no_product_file_is_named(ready: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("id = 1")
    code, said, _ = ready("publisher", "add", str(file), "--root", "P" * 43)
    assert (code, said["code"]) == (1, "document-refused")
    assert "x.toml: not JSON" in said["detail"]


# --- every command, called rightly ------------------------------------------------------------------------------------


def test_what_is_empty_says_what_to_do_first(ready: Run, tell: Callable[..., str]) -> None:
    for words, first in (
        (("machine", "list"), "volact vamt discover"),
        (("group", "list"), "volact vamt group create"),
        (("view", "list"), "volact vamt view save"),
        (("user", "list"), "volact vamt user add"),
        (("publisher", "list"), "volact vamt publisher add"),
        (("login", "show"), "volact vamt login set"),
        (("log",), "Nothing was done yet."),
    ):
        assert first in tell(*words), words
    assert tell("machine", "list", "--where", "name=a") == "No row is like that.\n"


def test_the_estate_of_a_group(ready: Run, tell: Callable[..., str]) -> None:
    for number, name in enumerate(("web1.example.com", "db1.example.com", "192.0.2.9")):
        assert ready("machine", "add", name, "--group", "SecureNetwork", "--address", f"192.0.2.{number}")[1][
            "new"
        ]
    assert not ready("machine", "add", "web1.example.com")[1]["new"]
    assert ready("group", "list")[1][0]["machines"] == 3
    assert ready("group", "create", "Other")[1] == {"group": "Other"}
    assert ready("group", "add", "Other", "web1", "192.0.2.9")[1] == {"group": "Other", "added": 2}
    assert ready("group", "remove", "Other", "192.0.2.9")[1] == {"group": "Other", "removed": 1}
    assert ready("view", "save", "mine", "--where", "group=other", "--sort", "-name")[0] == 0
    code, listed, _ = ready("machine", "list", "--view", "mine")
    assert (code, listed["total"], [row["name"] for row in listed["rows"]]) == (0, 1, ["web1"])
    assert listed["rows"][0]["groups"] == ["Other", "SecureNetwork"]
    assert listed["rows"][0]["product"] is None
    shown = tell("machine", "list", "--sort", "name")
    assert shown.splitlines()[0].split() == [
        "machine",
        "address",
        "groups",
        "product",
        "state",
        "key",
        "expires",
        "last",
        "answer",
    ]
    assert ready("machine", "note", "web1", "--text", "in the cellar")[1] == {"machines": 1}
    assert "in the cellar" in tell("machine", "show", "web1")
    assert ready("group", "delete", "Other")[1] == {"deleted": "Other"}
    assert ready("view", "delete", "mine")[1] == {"deleted": "mine"}
    assert ready("machine", "remove", "--all")[1] == {"removed": 3}
    assert {one["field"] for one in ready("view", "fields")[1]} >= {"name", "state", "group"}


def test_a_page_says_where_it_is(ready: Run) -> None:
    for number in range(3):
        ready("machine", "add", f"pc{number}")
    _, listed, err = ready("machine", "list", "--limit", "2", "--offset", "1")
    assert (listed["total"], listed["offset"], [row["name"] for row in listed["rows"]]) == (
        3,
        1,
        ["pc1", "pc2"],
    )
    assert "rows 2 to 3 of 3" in err


def test_a_host_key_is_pinned(ready: Run, tmp_path: Path) -> None:
    key = f"ssh-ed25519 {'A' * 68}"
    (tmp_path / "key.pub").write_text(f"{key} root@web1\n")
    ready("machine", "add", "web1")
    assert ready("machine", "trust", "web1", "--host-key", f"@{tmp_path / 'key.pub'}")[1]["host_keys"] == [
        key
    ]
    assert ready("machine", "show", "web1")[1]["host_keys"] == [key]


def test_people_and_what_they_did(ready: Run) -> None:
    assert ready("user", "add", "zoe", "--role", "viewer")[1] == {
        "user": "zoe",
        "role": "viewer",
        "new": True,
    }
    _, made, err = ready("user", "token", "zoe", "--label", "script")
    assert made["token"].startswith("vamt_")
    assert "not shown again" in err
    with setup.opened() as opened:
        assert opened.vamt().access.identify(made["token"]) == ("zoe", "viewer")
    assert ready("user", "list")[1][0]["tokens"] == 1
    assert ready("user", "token", "zoe", "--revoke")[1] == {"user": "zoe", "revoked": 1}
    assert ready("user", "remove", "zoe")[1] == {"removed": "zoe"}
    code, log, _ = ready("log", "--since", "1h")
    assert (code, len(log)) == (0, 4)
    assert log[0] | {"time": "", "number": 0} == {
        "number": 0,
        "time": "",
        "who": setup.operating_person().name,
        "role": "key-administrator",
        "action": "change-people",
        "what": {"remove": "zoe"},
        "rows": None,
        "result": "ok",
        "detail": None,
    }
    assert made["token"] not in json.dumps(log)
    assert ready("log", "--who", "nobody")[1] == []


def test_the_person_is_the_user_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert setup.operating_person().role == "key-administrator"
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999)
    assert setup.operating_person().name == "uid 3999999"


def test_publishers_by_their_files(ready: Run, tmp_path: Path) -> None:
    publisher = Publisher(iat=NOW)
    file = tmp_path / "cad.volact-product"
    file.write_bytes(publisher.product_file(url="https://one.test"))
    code, said, _ = ready("publisher", "add", str(file), "--root", publisher.pub, "--name", "Contoso")
    assert (code, said) == (
        0,
        [{"publisher": publisher.pub, "product": "com.example.cad", "version": 1, "added": True}],
    )
    (known,) = ready("publisher", "list")[1]
    assert (known["name"], known["lab"], known["url"], known["products"][0]["product"]) == (
        "Contoso",
        True,
        "https://one.test",
        "com.example.cad",
    )


def test_the_clock_is_a_laboratorys_only_where_all_publishers_are(
    ready: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clock").write_text("2030-01-31T12:00:00Z")
    monkeypatch.setenv("VOLACT_LAB_CLOCK", str(tmp_path / "clock"))

    def year() -> str:
        ready("machine", "note", "--all", "--text", "x")
        return str(ready("log", "--limit", "1")[1][0]["time"][:4])

    ready("machine", "add", "web1")
    assert year() != "2030"
    for lab, expected in ((True, True), (False, False)):
        publisher = Publisher(lab=lab, iat=NOW)
        file = tmp_path / "cad.volact-product"
        file.write_bytes(publisher.product_file())
        assert ready("publisher", "add", str(file), "--root", publisher.pub)[0] == 0
        assert (year() == "2030") is expected


# --- logins and the seal ----------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files with a passphrase, a key and a password."""
    for name, text in (("passphrase", PASSPHRASE), ("key", PRIVATE), ("password", "planted-canary")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("VOLACT_VAMT_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    return tmp_path


def test_a_secret_login_needs_the_seal(ready: Run, secrets: Path, home: Path) -> None:
    words = ("login", "set", "--user", "vamt", "--password", f"@{secrets / 'password'}")
    assert ready(*words)[1]["code"] == "not-set-up"
    assert ready("seal")[1] == {"seal": "passphrase"}
    assert ready("seal")[1]["code"] == "already-exists"
    ready("group", "create", "Secure")
    assert ready(*words)[1] == {"group": None, "account": "vamt", "sealed": True}
    code, said, _ = ready("login", "set", "--group", "Secure", "--user", "s", "--key", str(secrets / "key"))
    assert (code, said) == (0, {"group": "Secure", "account": "s", "sealed": True})
    shown = ready("login", "show")[1]
    assert [(one["group"], one["account"], one["kind"], one["sealed"]) for one in shown] == [
        (None, "vamt", "password", True),
        ("Secure", "s", "key", True),
    ]
    for file in (home / "vamt").rglob("*"):
        if file.is_file():
            assert b"planted-canary" not in file.read_bytes()
            assert PRIVATE.splitlines()[2].encode() not in file.read_bytes()
    assert "planted-canary" not in json.dumps([shown, ready("log")[1]])
    assert ready("login", "remove", "--group", "Secure")[1] == {"removed": "Secure"}


def test_a_wrong_passphrase_opens_nothing(ready: Run, secrets: Path) -> None:
    ready("seal")
    ready("login", "set", "--user", "vamt", "--password", f"@{secrets / 'password'}")
    ready("machine", "add", "web1")
    (secrets / "passphrase").write_text("another passphrase")
    code, said, _ = ready("collect", "--all")
    assert (code, said["code"]) == (1, "passphrase-wrong")
    assert ready("machine", "show", "web1")[1]["tried"] is None


def test_a_login_without_a_secret_needs_no_seal(ready: Run, secrets: Path) -> None:
    words = (
        "--user",
        "u",
        "--key-file",
        str(secrets / "key"),
        "--command",
        "sudo volact",
        "--jump",
        "j@gate.test:2222",
    )
    assert ready("login", "set", *words, "--jump-host-key", "ssh-ed25519 AAAA")[0] == 0
    (shown,) = ready("login", "show")[1]
    assert (shown["kind"], shown["sealed"], shown["options"]["command"]) == ("key", False, ["sudo", "volact"])
    assert shown["options"]["jump"]["host"] == "gate.test"


# --- collecting ---------------------------------------------------------------------------------------------------------


def test_this_machine_is_collected(ready: Run, tell: Callable[..., str]) -> None:
    ready("machine", "add", "here", "--transport", "local")
    code, said, _ = ready("collect", "--all")
    assert (code, said) == (0, {"asked": 1, "answered": 1, "failed": []})
    assert "1 machines were asked, 1 answered, 0 did not" in tell("collect", "here")
    assert ready("machine", "list")[1]["rows"][0]["outcome"] == "ok"


def test_machines_without_a_login_fail_with_that_reason(ready: Run, tell: Callable[..., str]) -> None:
    ready("machine", "add", "web1.invalid")
    code, said, _ = ready("collect", "--all")
    assert (code, said["asked"], said["answered"]) == (3, 1, 0)
    (failed,) = said["failed"]
    assert (failed["machine"], failed["code"]) == ("web1.invalid", "login-missing")
    assert "volact vamt login set" in failed["next"]


def test_the_errors_of_a_role_that_is_not_set_up(home: Path) -> None:
    with pytest.raises(Refused) as refused, setup.opened():
        pass
    assert isinstance(refused.value, VolactError)
    assert refused.value.refusal.code == "not-set-up"
