"""What of a wrong call is repeated: everything but what may be a product key (M8)."""

import io
import json
import os
import subprocess
import sys

import pytest

from terminal import Terminal
from volact import cli, console, slmgr
from volact.client import cli as client
from volact.console import Console
from volact.kmshost import cli as kmshost
from volact.lab import cli as lab
from volact.protocol.problems import Refusal, UsageError
from world import new_key

KEY = new_key("mak").text()
GROUPS = KEY.split("-")
HOST = ("--host", "h", "--product", "p", "--root", "A" * 43)


def said(app: object, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main = lab.main if app is lab else kmshost.main
    assert main([*words, "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["detail"] in err
    return str(json.loads(out)["detail"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fleet", "--product", "x"], 'Command "fleet" parameter --host requires an argument.'),
        (["x"], 'Unknown command "x". Available commands: fleet, story.'),
        (["fleet", *HOST, "--machines", "9" * 23], f"--machines must be 1 to 2000000, not {'9' * 23}."),
        (["fleet", *HOST, "--machines", "2000001"], "--machines must be 1 to 2000000, not 2000001."),
        (["fleet", *HOST, "--machines", "1.5"], "1.5"),
        (["story", "kms", "--days", "1234567890123456789012345x"], "--days"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_ordinary_sentences_are_said_whole(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert sentence in said(lab, capsys, *words)


def test_a_list_of_commands_is_said_whole(capsys: pytest.CaptureFixture[str]) -> None:
    listed = said(kmshost, capsys, "xx")
    assert "init, install-key, activate, extend, serve, publish, " in listed
    assert "…" not in listed


SPELLINGS = {
    "as it is": [KEY],
    "lower": [KEY.lower()],
    "one word": [KEY.replace("-", "")],
    "lower, one word": [KEY.replace("-", "").lower()],
    "words": GROUPS,
    "words, lower": [group.lower() for group in GROUPS],
    "words, a character too much": [GROUPS[0], GROUPS[1] + "A", *GROUPS[2:]],
    "words, a character lacks": [GROUPS[0], GROUPS[1][:4], *GROUPS[2:]],
    "three words": GROUPS[:3],
    "words between options": [*GROUPS[:2], "--bogus", *GROUPS[2:]],
    "words and commas": [f"{group}," for group in GROUPS],
    "blanks": [" ".join(GROUPS)],
    "more blanks": ["  ".join(GROUPS)],
    "tabs": ["\t".join(GROUPS)],
    "lines": ["\n".join(GROUPS)],
    "dots": [".".join(GROUPS)],
    "lines under": ["_".join(GROUPS)],
    "slashes": ["/".join(GROUPS)],
    "one character lacks": [KEY[:-1]],
    "a character too much": [KEY + "A"],
    "O for 0": [KEY.replace("0", "O")],
    "an option's value": [f"--bogus={KEY}"],
    "an option's value, lower": [f"--limit={KEY.lower()}"],
    "an option's value, blanks": [f"--limit={' '.join(GROUPS)}"],
    "an option": [f"--{KEY}"],
    "a file": [f"@{KEY}"],
    "a file, one word": [f"@{KEY.replace('-', '')}"],
    "a file, blanks": [f"@{' '.join(GROUPS)}"],
    "a switch": [f"/{KEY}"],
    "a switch, words": [f"/{GROUPS[0]}", *GROUPS[1:]],
    "within a sentence": [f"the key is {' '.join(GROUPS)} I think"],
    "twice": [KEY + KEY],
    "twice, one word": [KEY.replace("-", "") * 2],
    "colons": [":".join(GROUPS)],
    "a group lacks": [".".join(GROUPS[:4])],
}


@pytest.mark.parametrize("words", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("before", [[], ["status"], ["clients", "--limit"], ["key", "show"]], ids=" ".join)
def test_a_key_is_hidden_in_any_spelling(
    capsys: pytest.CaptureFixture[str], before: list[str], words: list[str]
) -> None:
    assert kmshost.main([*before, *words]) in (1, 2)
    out, err = capsys.readouterr()
    shown = (out + err).upper().replace("O", "0")
    assert not [group for group in GROUPS[:4] if group.upper().replace("O", "0") in shown], err


PLACES = {
    "client": [
        [],
        ["install-key"],
        ["install-key", "--product"],
        ["activate", "--product"],
        ["activate", "extra"],
        ["events", "--since"],
        ["install"],
        ["install", "no-such-file", "--root"],
    ],
    "slmgr": [[f"/{name}"] for name in slmgr.SWITCHES] + [["/ipk", "x"], ["/ato", "--role"], ["/sai", "20"]],
    "volact": [["nothing"], ["completion"], ["quickstart", "--exit"]],
}


@pytest.mark.parametrize("words", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize(
    ("program", "before"),
    [(program, before) for program, places in PLACES.items() for before in places],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_key_is_hidden_wherever_it_was_typed(
    capsys: pytest.CaptureFixture[str], program: str, before: list[str], words: list[str]
) -> None:
    """On both outputs: with --json the prose is on standard error all the same."""
    main = {"client": client.main, "slmgr": slmgr.main, "volact": cli.main}[program]
    assert main([*before, *words, "--json"]) in (1, 2, 4)
    out, err = capsys.readouterr()
    shown = (out + err).upper().replace("O", "0")
    assert not [group for group in GROUPS[:4] if group.upper().replace("O", "0") in shown], err


def test_what_a_refusal_carries_and_what_is_to_do_next_show_no_key_either() -> None:
    out, err = io.StringIO(), io.StringIO()
    speaking = Console(json=True, words=[" ".join(GROUPS)], out=out, err=err)
    extra = (("which", [{"one": f"it is {KEY}"}, 7]), ("note", " ".join(GROUPS)))
    assert speaking.refuse(Refusal("usage", "No.", extra), 2, f"Not {' '.join(GROUPS)}, please.") == 2
    speaking.remark(f"remark {KEY}")
    assert json.loads(out.getvalue())["which"][1] == 7
    assert not [group for group in GROUPS[:4] if group in out.getvalue() + err.getvalue()]


@pytest.mark.parametrize("words", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("program", ["volact", "volact.slmgr"])
def test_a_first_word_is_hidden_too(
    program: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main = cli.main if program == "volact" else slmgr.main
    assert main(words) == 2
    out, err = capsys.readouterr()
    shown = (out + err).upper().replace("O", "0")
    assert not [group for group in GROUPS[:4] if group.upper().replace("O", "0") in shown], err


@pytest.mark.parametrize(
    "word",
    [
        "1" * 25,
        "bdSoxaAwTxu5oWrwGsYxGqEUFf_RmWy_OM13uRL09zM",
        "/home/somebody/licences/com.example.cad.volact-product",
        "/home/user/apps/port/cads/prod.toml",
        "./apps/port/cads/prod.toml",
        "/tmp/made-of-root/runs-1223/popen-gw1/file",
        "apps/port/cads/prod/toml",
        "AGsFTrw6moKCjjFqKzUOMQ",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "4c4c4544-0042-3510-8052-b4c04f484e31",
        "123456-234567-345678-456789-567890",
        "kms.some-department.example.com:99999",
        "com.example.some-long-product-name",
        "https://licensing.example.com:8443",
        "2026-01-31T12:00:00Z",
        "events",
        "x",
    ],
)
def test_words_that_are_no_keys_are_repeated(word: str) -> None:
    text = f"There is no {word}, they say."
    assert console.without_typed(text, [word, "serve", "fleet"], {"serve", "fleet"}) == text
    assert console.without_keys(text) == text


def test_only_what_was_typed_is_hidden() -> None:
    text = f"Command fleet Parameter hides {KEY} and {' '.join(GROUPS)}"
    assert console.without_typed(text, []) == text
    assert (
        console.without_typed("Kinds: meter, parameter", ["meter", "fleet", "serve"]) == "Kinds: …, parameter"
    )


def test_help_is_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    assert kmshost.main(["status", "--help", "--json"]) == 0
    assert "…" not in capsys.readouterr().out


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "volact", *words], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "words",
    [
        ["completion"],
        ["completion", "nosh"],
        ["completion", "bash", "more"],
        ["quickstart", "--bogus"],
        ["quickstart", "now"],
        ["nothing"],
        [],
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_one_problem_in_json_and_a_sentence_in_prose(words: list[str]) -> None:
    done = run(*words, "--json")
    assert done.returncode == 2
    problem = json.loads(done.stdout)
    assert problem["code"] == "usage"
    assert problem["next"]
    done = run(*words)
    assert done.returncode == 2
    if words:
        assert problem["detail"] in done.stderr
        assert done.stderr.splitlines()[-1] == problem["next"]
        assert done.stdout == ""


@pytest.mark.parametrize("words", [["completion", "--help"], ["quickstart", "--help"]], ids=" ".join)
def test_help_is_done(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: volact" in done.stdout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 1_000_000 - 7200),
        ("30m", 1_000_000 - 1800),
        ("7d", 1_000_000 - 604_800),
        ("1970-01-02T00:00:00Z", 86_400),
        ("1970-01-02T01:00:00+01:00", 86_400),
    ],
)
def test_since_is_a_span_or_a_time(text: str, seconds: int) -> None:
    assert console.since_argument(text, 1_000_000) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2h ago", "1970-01-02T00:00:00", "1970-01-02", "9" * 5000],
)
def test_what_is_neither_a_span_nor_a_time_is_said(text: str) -> None:
    """A time without its zone may be meant as any."""
    with pytest.raises(UsageError) as caught:
        console.since_argument(text, 1_000_000)
    assert len(str(caught.value)) < 120


SHOW = """
import sys
from volact import commands
from volact.console import Console
json = sys.argv[1] == "--json"
def show():
    commands.show(Console(json=json), ["answer"], [["answer"]], ["what"], "")
sys.exit(commands.run(Console(json=json), show))
"""


FULL = "not-writable: A file or folder cannot be written. No space left on device."


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--json 1>&-", 0, ""),
        ("--prose 1>&-", 0, ""),
        ("--json 1>/dev/full", 4, FULL),
        ("--prose 1>/dev/full", 4, FULL),
        ("--json 1>/dev/full 2>/dev/full", 4, ""),
        ("--prose 2>&-", 0, ""),
        ("--json | head -c 0", 0, ""),
    ],
)
def test_an_answer_that_cannot_be_written(words: str, code: int, said: str) -> None:
    """No traceback, neither then nor when Python ends and would write what is left."""
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" -c "$1" {words}', sys.executable, SHOW],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr.splitlines()[:1] == ([said] if said else [])
    assert "Error" not in done.stderr


@pytest.mark.parametrize(
    "cell", ["\x1b[2J", "\x1b]0;x\x07", "\u009b31m", "a\u202eb", "a\nb", "a\tb", "a\rb", "\x00"]
)
def test_no_cell_of_a_table_steers_a_terminal(cell: str) -> None:
    """T26: what machines, files and people say is shown in tables."""
    drawn = console.table([("web1", cell), ("[b]é", "ok")], ("machine", "what"))
    assert all(line.isprintable() for line in drawn.splitlines())
    assert len(drawn.splitlines()) == 3
    assert "[b]é     ok" in drawn


def test_a_key_that_is_typed_on_a_terminal_is_not_shown() -> None:
    program = "from volact.console import secret_argument; print(len(secret_argument('-')), 'characters')"
    with Terminal(environ=os.environ, python=("-c", program)) as terminal:
        terminal.answer("Secret (not shown)", KEY)
        assert terminal.end() == 0
        assert f"{len(KEY)} characters" in terminal.shown
        assert GROUPS[0] not in terminal.shown


def test_a_terminal_that_is_closed_instead_gives_nothing() -> None:
    program = "from volact.console import typed_secret; print(repr(typed_secret()))"
    with Terminal(environ=os.environ, python=("-c", program)) as terminal:
        terminal.answer("Secret (not shown)", "\x04")  # Ctrl-D
        assert terminal.end() == 0
        assert "''" in terminal.shown
