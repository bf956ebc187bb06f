"""The publisher's commands: what they print, with and without --json, and how they refuse."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authority_process import PRODUCT_FILE
from volact.authority import cli, statuslist
from volact.cli import main as volact
from volact.protocol import keys
from world import PRODUCT

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; its exit code, standard output and standard error."""
    monkeypatch.setenv("VOLACT_HOME", str(tmp_path / "home"))

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def ready(run: Run, tmp_path: Path) -> Run:
    """With an authority, a product and a customer."""
    file = tmp_path / "product.toml"
    file.write_text(PRODUCT_FILE)
    for words in (("init", "--lab"), ("product", "add", str(file)), ("customer", "add", "Contoso")):
        assert run(*words)[0] == 0
    return run


def value(result: tuple[int, str, str], code: int = 0) -> Any:
    assert result[0] == code, result
    return json.loads(result[1])


def issue(run: Run, *more: str, kind: str = "mak", code: int = 0) -> Any:
    return value(
        run("key", "issue", "--product", PRODUCT, "--customer", "Contoso", "--kind", kind, *more, "--json"),
        code,
    )


def test_init_prints_the_root_and_refuses_a_second_time(run: Run, tmp_path: Path) -> None:
    code, out, err = run("init", "--name", "Example", "--url", "https://licensing.example.com")
    assert (code, err) == (0, "")
    assert re.match(r"root: [A-Za-z0-9_-]{43}\n", out)
    before = {path: path.read_bytes() for path in (tmp_path / "home").rglob("*.pem")}
    assert value(run("init", "--json"), 1)["code"] == "already-exists"
    assert before == {path: path.read_bytes() for path in (tmp_path / "home").rglob("*.pem")}


def test_init_is_all_or_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(statuslist, "renew", fail)
    assert run("init")[0] == 4
    assert list((tmp_path / "home").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("VOLACT_HOME", str(tmp_path / "home"))
    assert run("init")[0] == 0


def test_a_product_is_added_changed_listed_and_exported(ready: Run, tmp_path: Path) -> None:
    file = tmp_path / "product.toml"
    assert value(ready("product", "add", str(file), "--json")) == {
        "product": PRODUCT,
        "version": 1,
        "added": False,
    }
    file.write_text(PRODUCT_FILE + '[policy]\nvalidity = "90d"\n')
    assert value(ready("product", "add", str(file), "--json"))["version"] == 2
    (listed,) = value(ready("product", "list", "--json"))
    assert (listed["product"], listed["version"], listed["policy"]) == (PRODUCT, 2, {"validity": 90 * 86400})
    assert len(listed["tls"]) == 1
    output = tmp_path / "out.volact-product"
    assert ready("product", "export", PRODUCT, "-o", str(output))[0] == 0
    assert json.loads(output.read_text()).keys() == {"root", "token", "chain", "roots"}
    first = output.read_bytes()
    ready("product", "export", PRODUCT, "-o", str(output))
    assert output.read_bytes() == first
    assert value(ready("product", "export", "com.example.none", "--json"), 1)["code"] == "product-unknown"
    file.write_text(PRODUCT_FILE + "[policy]\nvalidty = 1\n")
    refused = value(ready("product", "add", str(file), "--json"), 1)
    assert (refused["code"], refused["line"]) == ("product-file-invalid", 5)
    assert value(ready("product", "add", str(tmp_path / "none.toml"), "--json"), 4)["code"] == "not-readable"
    file.write_bytes(b"\xff\xfe")
    assert value(ready("product", "add", str(file), "--json"), 1)["code"] == "product-file-invalid"


def test_the_keys_of_an_issue_are_shown_once(ready: Run) -> None:
    issued = issue(ready, "--activations", "3", "--copies", "2")
    assert len(issued["keys"]) == 2
    for text, label in zip(issued["keys"], issued["labels"], strict=True):
        key = keys.read(text)
        assert isinstance(key, keys.ProductKey)
        assert (key.kind, key.label) == ("mak", label)
    listed = ready("key", "list")[1] + ready("key", "show", issued["labels"][0])[1]
    assert not [text for text in issued["keys"] if text in listed or text[:17] in listed]
    assert all(label in listed for label in issued["labels"])
    shown = value(ready("key", "show", issued["labels"][0].lower(), "--json"))
    assert (shown["bought"], shown["activated"], shown["remaining"], shown["blocked"]) == (3, 0, 3, None)


def test_keys_go_to_a_new_private_file(ready: Run, tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    issued = issue(ready, "--copies", "250", "--csv", str(file), kind="retail")
    assert "keys" not in issued
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["label"] for row in rows] == issued["labels"]
    assert len({row["label"] for row in rows}) == len({row["key"] for row in rows}) == 250
    assert {(row["kind"], row["product"], row["activations"]) for row in rows} == {("retail", PRODUCT, "1")}
    assert file.stat().st_mode & 0o777 == 0o600
    assert issue(ready, "--csv", str(file), kind="retail", code=1)["code"] == "already-exists"
    assert len(value(ready("key", "list", "--json"))) == 250


def test_keys_that_could_not_be_written_are_not_issued(ready: Run, tmp_path: Path) -> None:
    refused = issue(ready, "--csv", str(tmp_path / "no" / "folder.csv"), kind="retail", code=4)
    assert refused["code"] in ("not-readable", "not-writable")
    assert value(ready("key", "list", "--json")) == []


def test_keys_that_were_not_committed_leave_no_file(
    ready: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from volact.authority import records

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "keys.csv"
    monkeypatch.setattr(records, "add_keys", fail)
    assert issue(ready, "--csv", str(file), kind="retail", code=4)["code"] == "not-writable"
    assert not file.exists()


@pytest.mark.parametrize(
    ("kind", "more", "exit_code", "code"),
    [
        ("mak", (), 2, "usage"),
        ("retail", ("--activations", "2"), 2, "usage"),
        ("mak", ("--activations", "0"), 2, "usage"),
        ("mak", ("--activations", "x"), 2, "usage"),
        ("mak", ("--activations", "1", "--copies", "0"), 2, "usage"),
        ("oem", ("--activations", "1"), 2, "usage"),
        ("retail", ("--product", "com.example.other"), 2, "usage"),
        ("mak", ("--activations", "99999999999999999999"), 2, "usage"),
        ("kms-host", ("--machines", "99999999999999999999"), 2, "usage"),
        ("kms-host", ("--product", "com.example.other"), 1, "product-unknown"),
    ],
)
def test_orders_that_are_none(
    ready: Run, kind: str, more: tuple[str, ...], exit_code: int, code: str
) -> None:
    assert issue(ready, *more, kind=kind, code=exit_code)["code"] == code
    assert value(ready("key", "list", "--json")) == []


def test_a_customer_is_added_once(ready: Run) -> None:
    assert value(ready("customer", "add", "Contoso", "--json"), 1)["code"] == "already-exists"
    assert value(ready("customer", "add", "a\nb", "--json"), 2)["code"] == "usage"
    (one,) = value(ready("customer", "list", "--json"))
    assert one["customer"] == "Contoso"
    words = ("key", "issue", "--product", PRODUCT, "--customer", "Nobody", "--kind", "retail", "--json")
    assert value(ready(*words), 1)["code"] == "customer-unknown"


def test_block_raise_and_bind(ready: Run, tmp_path: Path) -> None:
    label = issue(ready, "--activations", "3")["labels"][0]
    assert value(ready("key", "raise", label, "5", "--json"))["remaining"] == 5
    assert value(ready("key", "raise", label, "5", "--json"), 1)["code"] == "raise-refused"
    machines = tmp_path / "machines"
    machines.write_text("A" * 43 + "\n\n" + "B" * 43 + "\n")
    bound = value(
        ready(
            "key",
            "bind",
            label,
            "--machines",
            str(machines),
            "--networks",
            "192.0.2.0/24, 2001:db8::/32",
            "--json",
        )
    )
    assert (bound["machines"], bound["networks"]) == (2, ["192.0.2.0/24", "2001:db8::/32"])
    assert ready("key", "bind", label)[0] == 2
    assert value(ready("key", "bind", label, "--networks", "192.0.2.1/24", "--json"), 2)["code"] == "usage"
    machines.write_text("not a cmid\n")
    assert value(ready("key", "bind", label, "--machines", str(machines), "--json"), 2)["code"] == "usage"
    assert value(ready("key", "bind", label, "--networks", "", "--json"))["networks"] == []
    assert value(ready("key", "block", label, "--json"))["blocked"] == "new"
    assert value(ready("key", "block", label, "--json"), 1)["code"] == "already-exists"
    assert value(ready("key", "block", label, "--all", "--json"))["status_list"] == 3
    assert value(ready("key", "block", label, "--json"), 1)["code"] == "already-exists"
    for words in (("show",), ("block",), ("raise", "9")):
        assert value(ready("key", words[0], "MZZZZ", *words[1:], "--json"), 1)["code"] == "label-unknown"
    assert value(ready("activation", "block", "-" * 22, "--json"), 1)["code"] == "activation-unknown"
    assert value(ready("activation", "list", "--key", "MZZZZ", "--json"), 1)["code"] == "label-unknown"


def test_empty_lists_say_what_to_do_first(run: Run) -> None:
    run("init", "--lab")
    for words, hint in (
        (("product", "list"), "product add"),
        (("customer", "list"), "customer add"),
        (("key", "list"), "key issue"),
        (("activation", "list"), "no activations yet"),
    ):
        code, out, _ = run(*words)
        assert code == 0
        assert hint in out
        assert value(run(*words, "--json")) == []


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("key", "nonsense"),
        ("key", "show"),
        ("key", "list", "--nonsense"),
        ("key", "raise", "MXXXX", "many"),
        ("product", "export"),
        ("serve", "--listen", "nowhere"),
        ("serve", "--listen", "127.0.0.1:99999"),
        ("answer", "x"),
        ("init", "--url", "http://example.com"),
    ],
)
def test_a_wrong_call_is_exit_2_with_a_sentence(run: Run, words: tuple[str, ...]) -> None:
    if words[0] == "serve":
        run("init", "--lab")
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ")
    assert value(run(*words, "--json"), 2)["code"] == "usage"


def test_a_key_given_in_a_wrong_place_is_not_repeated(run: Run) -> None:
    key = "N2JMN-Q6VKK-TJVSK-N3BPT-MYKH2"
    run("init", "--lab")
    for words in (
        (key,),
        ("key", key),
        ("key", "show", key),
        ("key", "list", key),
        ("key", "raise", "MX", key),
    ):
        code, out, err = run(*words)
        assert code in (1, 2)
        assert key not in out + err


def test_help_everywhere(run: Run) -> None:
    for words in ((), ("key",), ("key", "issue"), ("serve",), ("activation", "block")):
        code, out, err = run(*words, "--help")
        assert (code, err) == (0, "")
        assert "Usage" in out or "usage" in out
    assert run()[0] == 2
    assert volact(["authority", "nonsense"]) == 2


def test_settings_are_checked(ready: Run, tmp_path: Path) -> None:
    (tmp_path / "home" / "authority.toml").write_text('liste = "x"\n')
    refused = value(ready("key", "list", "--json"), 2)
    assert "line 1" in refused["detail"]
    assert "did you mean 'listen'" in refused["detail"]
