"""``volact completion bash``: prints a script that completes roles, commands, their options and slmgr's switches.

The words come from the commands themselves; a role whose extra is not installed is completed by its name alone. Where
neither a command nor an option can follow, bash offers files.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from typing import Any

from volact import cli, console
from volact.console import Console

SCRIPT = """\
# eval "$(volact completion bash)"
_volact() {{
    local words="" before="${{COMP_WORDS[*]:1:COMP_CWORD-1}}" current="${{COMP_WORDS[COMP_CWORD]}}"
    while :; do
        case "$before" in
{cases}
        esac
        [[ -z $words && $before == *" "* ]] || break
        before="${{before% *}}"
    done
    [[ $words == -* && $current != -* ]] && words=""
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _volact volact
complete -o default -W "{switches}" slmgr
"""
_ARGPARSE = ("client", "doctor", "quickstart")
_CYCLOPTS = ("authority", "kmshost", "lab", "vamt")
_HELP = ["--json", "--help"]


def commands() -> dict[str, list[str]]:
    """What may follow: words so far -> next words, which after a whole command are its options."""
    from volact.slmgr import SWITCHES

    found = {"": [*cli.ROLES], "completion": ["bash"], "slmgr": [f"/{name}" for name in SWITCHES]}
    for role in _ARGPARSE:
        module = _module(role)
        if module:
            found.update(_argparse(module.parser(), role))
    for role in _CYCLOPTS:
        module = _module(role)
        if module:
            found.update(_cyclopts(module.app, role))
    return found


def _module(role: str) -> Any | None:  # noqa: ANN401 - the role's commands
    try:
        return importlib.import_module(cli.ROLES[role].module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("volact"):
            raise
        return None


def _argparse(parser: argparse.ArgumentParser, words: str) -> dict[str, list[str]]:
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]  # noqa: SLF001 - argparse has no other way to ask
    inner = {name: each for group in groups for name, each in group.choices.items()}
    if not inner:
        longest = [one.option_strings[-1] for one in parser._actions if one.option_strings]  # noqa: SLF001 - as above
        return {words: [*(one for one in longest if one not in _HELP), *_HELP]}
    found = {words: [*inner]}
    for name, each in inner.items():
        found.update(_argparse(each, f"{words} {name}"))
    return found


def _cyclopts(app: Any, words: str) -> dict[str, list[str]]:  # noqa: ANN401 - cyclopts' App, which may be missing
    names = sorted(name for name in app if not name.startswith("-"))
    if not names:
        options = (one.parameter.name[0] for one in app.assemble_argument_collection() if one.show)
        return {words: [*(one for one in options if one[:2] == "--" and one not in _HELP), *_HELP]}
    found = {words: names}
    for name in names:
        found.update(_cyclopts(app[name], f"{words} {name}"))
    return found


def script(tree: dict[str, list[str]]) -> str:
    """The bash script for these commands."""
    cases = "\n".join(f'        "{words}") words="{" ".join(next_)}" ;;' for words, next_ in tree.items())
    return SCRIPT.format(cases=cases, switches=" ".join(tree["slmgr"]))


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
    tree = commands()
    out.answer({words: next_ for words, next_ in tree.items() if not _is_whole(words, next_)}, script(tree))


def _is_whole(words: str, next_: list[str]) -> bool:
    """Whether only options follow: no part of the tree, but of a role that has no commands."""
    return " " in words and next_[-1:] == _HELP[-1:]
