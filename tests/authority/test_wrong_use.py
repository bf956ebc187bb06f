"""A publisher's slips: wrong words, files and settings are a sentence and an exit code, and nothing is half done."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authority_process import PRODUCT_FILE
from volact import certificate, commands, http
from volact.authority import cli, issuing, setup
from volact.authority.publisher import Office
from volact.config import AuthoritySettings, SettingInvalid
from volact.console import Console
from volact.protocol.problems import BrokenData, Refused, UsageError
from world import PRODUCT

KEY = "N2JMN-Q6VKK-TJVSK-N3BPT-MYKH2"
ISSUE = ("key", "issue", "--product", PRODUCT, "--customer", "Contoso")

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """With an authority, a product and a customer: run a command; its exit code, JSON value and standard error."""
    monkeypatch.setenv("VOLACT_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = cli.main([*arguments, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    file = tmp_path / "product.toml"
    file.write_text(PRODUCT_FILE)
    for words in (("init", "--lab"), ("product", "add", str(file)), ("customer", "add", "Contoso")):
        assert run(*words)[0] == 0
    return run


@pytest.mark.parametrize(
    "words",
    [
        ("key", "show", "\udcff"),
        ("product", "export", "\udcff"),
        ("activation", "block", "\udcff"),
        ("init", "--name", "\udcff"),
        ("customer", "add", "\udcff"),
    ],
)
def test_what_is_no_text_is_a_wrong_call(run: Run, words: tuple[str, ...]) -> None:
    code, answer, _ = run(*words)
    assert (code, answer["code"]) == (2, "usage")


@pytest.mark.parametrize(
    "words",
    [
        (*ISSUE, "--kind", "mak", f"--activations={KEY}"),
        (*ISSUE, "--kind", KEY),
        ("key", "show", *KEY.split("-")),
        ("key", "show", KEY.replace("-", "")),
        ("key", "raise", "M1234", KEY.replace("-", " ")),
        ("key", "list", f"--{KEY}"),
        ("product", "add", KEY),
        ("serve", "--listen", KEY),
        ("answer", KEY, "-o", KEY),
        ("key", "bind", "M1234", "--machines", KEY),
    ],
)
def test_a_key_in_a_wrong_place_is_not_repeated(run: Run, words: tuple[str, ...]) -> None:
    code, answer, err = run(*words)
    assert code in (1, 2, 4)
    assert not [group for group in KEY.split("-")[:4] if group in json.dumps(answer) + err]


def test_help_is_one_json_value_too(run: Run) -> None:
    for words in ((), ("key",), ("key", "issue"), ("serve",)):
        code, answer, err = run(*words, "--help")
        assert (code, err) == (0, "")
        assert "Usage: volact authority" in answer["help"]
        assert not [word for word in ("--no-", "--empty-", "Usage: usage") if word in answer["help"]]
    assert run()[0] == 2


def test_flags_have_no_opposites(run: Run) -> None:
    for words in ((*ISSUE, "--empty-product", "--kind", "retail"), ("init", "--no-lab")):
        assert run(*words)[0] == 2


def test_numbers_that_no_document_can_say(run: Run) -> None:
    big = str(2**53)
    assert run(*ISSUE, "--kind", "mak", "--activations", big)[0] == 2
    assert run(*ISSUE, "--kind", "kms-host", "--machines", big)[0] == 2
    label = run(*ISSUE, "--kind", "mak", "--activations", "1")[1]["labels"][0]
    for most in (big, "9" * 30):
        assert run("key", "raise", label, most)[1]["code"] == "raise-refused"
    assert run("key", "raise", label, str(2**53 - 1))[1]["remaining"] == 2**53 - 1


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(run: Run, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "no" / "file")
    for words in (
        (*ISSUE, "--kind", "retail", "--csv", nowhere),
        ("product", "export", PRODUCT, "-o", nowhere),
    ):
        code, answer, _ = run(*words)
        assert (code, answer["code"]) == (4, "not-writable")
        assert f"{nowhere}: No such file or directory." in answer["detail"]
    assert run("key", "list")[1] == []


def test_two_commands_do_not_write_their_keys_over_each_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.csv"
    issue = Office.issue

    def and_meanwhile(self: Office, *arguments: Any) -> None:
        monkeypatch.undo()
        monkeypatch.setenv("VOLACT_HOME", str(tmp_path / "home"))
        with pytest.raises(Refused, match="already"):
            issuing._reserve(file)
        issue(self, *arguments)

    monkeypatch.setattr(Office, "issue", and_meanwhile)
    assert run(*ISSUE, "--kind", "retail", "--csv", str(file))[0] == 0
    assert len(file.read_text().splitlines()) == 2


@pytest.mark.parametrize("committed", [True, False])
def test_the_file_of_keys_stays_only_if_they_may_be_good(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    """A commit whose answer is lost may have happened; keys cannot be shown again."""
    file, issue = tmp_path / "keys.csv", Office.issue

    def lost(self: Office, wanted: Any, keep: Any, progress: Any) -> None:
        if committed:
            issue(self, wanted, keep, progress)
            raise BrokenData("gone", "storage-unavailable")

        def fail(made: Any) -> None:
            keep(made)
            raise BrokenData("gone", "storage-unavailable")

        issue(self, wanted, fail, progress)

    monkeypatch.setattr(Office, "issue", lost)
    code, _, err = run(*ISSUE, "--kind", "retail", "--csv", str(file))
    assert code == 4
    assert file.exists() is committed
    assert ("is kept" in err) is committed
    assert len(run("key", "list")[1]) == int(committed)


def test_a_second_block_of_an_activation_is_refused_like_that_of_a_key(run: Run) -> None:
    label = run(*ISSUE, "--kind", "retail")[1]["labels"][0]
    assert run("key", "block", label)[0] == 0
    code, answer, _ = run("key", "block", label)
    assert (code, answer["code"]) == (1, "already-exists")


@pytest.mark.parametrize(
    ("database", "says"),
    [
        ("mysql://a/b", "postgresql://"),
        ("authority.db", "postgresql://"),
        ("postgresql://[bad:SECRET/x", "no database URL"),
    ],
)
def test_a_database_setting_that_is_none(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOLACT_AUTHORITY_DATABASE", database)
    for words in (("key", "list"), ("init",)):
        if words == ("init",):
            monkeypatch.setenv("VOLACT_HOME", str(tmp_path / "other"))
        code, answer, err = run(*words)
        assert (code, answer["code"]) == (2, "setting-invalid")
        assert says in answer["detail"]
        assert "SECRET" not in json.dumps(answer) + err
    assert list((tmp_path / "other").iterdir()) == []
    assert not (tmp_path / "authority.db").exists()


# --- listening, certificates ------------------------------------------------------------------------------------------


@pytest.mark.sockets
def test_only_a_taken_port_is_called_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BrokenData) as refused:
            http.bind("127.0.0.1", taken.getsockname()[1])
        assert refused.value.refusal.code == "port-taken"


@pytest.mark.sockets
@pytest.mark.parametrize("host", ["192.0.2.1", "x" * 300])
def test_an_address_of_another_machine_is_no_taken_port(host: str) -> None:
    with pytest.raises(UsageError):
        http.bind(host, 8443)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "tls"
    certificate.make(folder, "x")
    return folder / "certificate.pem", folder / "key.pem"


def test_a_certificate_and_its_key(pair: tuple[Path, Path]) -> None:
    certificate.check(*pair)
    pair[1].chmod(0o640)  # as Debian keeps them, for a group
    certificate.check(*pair)
    pair[1].chmod(0o604)
    with pytest.raises(BrokenData) as refused:
        certificate.check(*pair)
    assert refused.value.refusal.code == "key-file-exposed"


def test_what_is_wrong_with_a_certificate_is_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    chain, key = pair
    certificate.make(tmp_path / "other", "x")
    locked, junk, missing = tmp_path / "locked.pem", tmp_path / "junk.pem", tmp_path / "none"
    from cryptography.hazmat.primitives import serialization as forms

    loaded = forms.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        loaded.private_bytes(
            forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.BestAvailableEncryption(b"password")
        )
    )
    junk.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    for file in (locked, junk):
        file.chmod(0o600)
    for one, two, says in (
        (missing, key, f"{missing}: No such file"),
        (junk, key, f"{junk} holds no certificate"),
        (chain, missing, f"{missing}: No such file"),
        (chain, junk, "holds no private key"),
        (chain, locked, "without a password"),
        (chain, tmp_path / "other" / "key.pem", "is not the key of"),
    ):
        with pytest.raises(BrokenData) as refused:
            certificate.check(one, two)
        assert refused.value.refusal.code == "not-readable"
        assert says in refused.value.refusal.detail


@pytest.mark.parametrize("given", [{"tls_certificate": "c"}, {"tls_key": "k"}])
def test_half_a_certificate_is_a_slip(given: dict[str, str]) -> None:
    opened: Any = setup.Opened(AuthoritySettings(**given), *[None] * 3, Path("authority"), {})  # type: ignore[call-arg,arg-type]
    with pytest.raises(SettingInvalid, match="together"):
        opened.certificate()


# --- a terminal -------------------------------------------------------------------------------------------------------


def test_a_table_on_a_terminal_shows_names_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    commands.show(Console(), [], [("[/] [red]Contoso[/red] :smile:",)], ("customer",), "")
    assert "[/] [red]Contoso[/red] :smile:" in capsys.readouterr().out
