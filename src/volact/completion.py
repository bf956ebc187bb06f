"""``volact completion bash``: prints a script that completes roles, commands and slmgr's switches.

The words come from the commands themselves; a role whose extra is not installed is completed by its name alone.
"""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

from volact import cli, console
from volact.console import Console

SCRIPT = """\
# eval "$(volact completion bash)"
_volact() {{
    local words before="${{COMP_WORDS[*]:1:COMP_CWORD-1}}"
    case "$before" in
{cases}
        *) words="--json --help" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _volact volact
complete -o default -W "{switches}" slmgr
"""


def commands() -> dict[str, list[str]]:
    """What may follow: words so far -> next words."""
    from volact.client import cli as client

    found = {
        "": [*cli.ROLES],
        "client": _argparse(client.parser()),
        "completion": ["bash"],
        "doctor": ["--domain"],
    }
    if importlib.util.find_spec("cyclopts"):
        from volact.authority import cli as authority
        from volact.kmshost import cli as kmshost
        from volact.vamt import cli as vamt

        found.update(_cyclopts(authority.app, "authority"))
        found.update(_cyclopts(kmshost.app, "kmshost"))
        found.update(_cyclopts(vamt.app, "vamt"))
    return found


def _argparse(parser: argparse.ArgumentParser) -> list[str]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001 - argparse has no other way to ask
    return [name for group in groups for name in group.choices]


def _cyclopts(app: Any, words: str) -> dict[str, list[str]]:  # noqa: ANN401 - cyclopts' App, which may be missing
    names = [name for name in app if not name.startswith("-")]
    found = {words: sorted(names)}
    for name in names:
        inner = app[name]
        if [word for word in inner if not word.startswith("-")]:
            found.update(_cyclopts(inner, f"{words} {name}"))
    return found


def script() -> str:
    """The bash script."""
    from volact.slmgr import SWITCHES

    cases = "\n".join(
        f'        "{words}") words="{" ".join(next_)}" ;;' for words, next_ in commands().items()
    )
    return SCRIPT.format(cases=cases, switches=" ".join(f"/{name}" for name in SWITCHES))


def main(arguments: list[str]) -> int:
    """The command line."""
    out = Console(json="--json" in arguments, words=arguments)
    try:
        return console.run(out, lambda: _run(out, arguments))
    except SystemExit as stop:  # --help has been printed
        return int(stop.code or 0)


def _run(out: Console, arguments: list[str]) -> None:
    from volact.client.cli import Parser

    parser = Parser(prog="volact completion", description="Print a completion script.")
    parser.add_argument("shell", choices=["bash"], help='use it: eval "$(volact completion bash)"')
    parser.add_argument("--json", action="store_true", help="print the command tree as one JSON value")
    parser.parse_args(arguments)
    out.answer(commands(), script())
