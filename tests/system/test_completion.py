"""Shell completion, in a real bash."""

import json
import os
import re
import subprocess
import sys

import pytest

import inprocess
from volact import cli, completion

VOLACT = [sys.executable, "-m", "volact", "completion", "bash"]


@pytest.fixture(scope="module")
def script() -> str:
    """What the command prints."""
    return subprocess.run(VOLACT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["vol", "cli"], "client"),
        (["volact", "client", "inst"], "install install-key"),
        (["volact", "authority", "key", "iss"], "issue"),
        (["volact", "kmshost", "ex"], "extend"),
        (["volact", "authority", "key", "issue", "--j"], "--json"),
        (["volact", "authority", "key", "issue", "--kind", "mak", "--ac"], "--activations"),
        (["volact", "authority", "product", ""], "add export list"),
        (["volact", "kmshost", "en"], "enrol"),
        (["volact", "kmshost", "enrol", "--re"], "--replace"),
        (["volact", "lab", ""], "fleet story"),
        (["volact", "lab", "story", "--da"], "--days"),
        (["volact", "vamt", "l"], "lists log login"),
        (["volact", "vamt", "key", "re"], "recommend refresh remove"),
        (["volact", "client", "events", "--li"], "--limit"),
        (["volact", "client", "install", "product.v"], ""),
        (["volact", "doctor", "--d"], "--domain"),
        (["volact", "quickstart", "--f"], "--fresh"),
        (["volact", "slmgr", "/sk"], "/skms /skms-domain /skhc"),
        (["volact", "nonsense", "x", ""], ""),
    ],
)
def test_bash_completes_roles_commands_and_options(script: str, typed: list[str], offered: str) -> None:
    """The words that bash would offer for a half-typed line."""
    words = " ".join(f"'{word}'" for word in typed)
    lines = f'{script}\nCOMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _volact; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == offered
    assert done.stderr == ""


def test_the_tree_as_json_has_every_command_that_the_commands_name_themselves() -> None:
    """``--json`` is one JSON value here too; each role's commands are those that its own --help lists."""
    done = subprocess.run([*VOLACT, "--json"], capture_output=True, text=True, check=True)
    shown, tree = json.loads(done.stdout), completion.commands()
    whole = {words for words, next_ in tree.items() if next_[-1] == "--help"}
    assert shown[""] == [*cli.ROLES]
    assert {*cli.ROLES} <= {*shown}
    assert {*tree} - {*shown} == {words for words in whole if " " in words}
    asked = {*shown} - {""} | {*sorted(whole)[::4], "authority serve"}  # each takes its time
    environ = {**os.environ, "COLUMNS": "200"}
    for words, next_ in tree.items():
        if words in asked:
            helped = inprocess.run("volact", *words.split(), "--help", environ=environ).out
            listed = {*re.findall(r"^(?:│| )? {1,4}/?([a-z][a-z-]+)(?: |$)", helped, re.MULTILINE)}
            assert not [one for one in {*next_} - {"--help"} if one not in helped], words
            assert words in whole or not listed - {one.strip("/") for one in next_}, words


def test_another_shell_is_refused_with_the_ones_that_are_known() -> None:
    """A wrong shell is a usage error."""
    done = subprocess.run([*VOLACT[:-1], "tcsh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bash" in done.stderr
