"""Shell completion, in a real bash."""

import json
import subprocess
import sys

import pytest

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
    ],
)
def test_bash_completes_roles_commands_and_options(script: str, typed: list[str], offered: str) -> None:
    """The words that bash would offer for a half-typed line."""
    words = " ".join(f"'{word}'" for word in typed)
    lines = f'{script}\nCOMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _volact; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == offered
    assert done.stderr == ""


def test_the_tree_as_json_names_every_role() -> None:
    """``--json`` is one JSON value here too."""
    done = subprocess.run([*VOLACT, "--json"], capture_output=True, text=True, check=True)
    tree = json.loads(done.stdout)
    assert {"client", "authority", "kmshost", "quickstart", "completion"} <= set(tree[""])
    assert "issue" in tree["authority key"]


def test_another_shell_is_refused_with_the_ones_that_are_known() -> None:
    """A wrong shell is a usage error."""
    done = subprocess.run([*VOLACT[:-1], "tcsh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bash" in done.stderr
