"""Guards over the files as they would be committed: addresses, paths, locks, sizes, names."""

import json
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ["run.txt", "test.txt", "bench.txt"]
LONGEST = 500  # lines of a source file

# Put together here, so that this file does not trip its own guard.
DOT = "."
REGISTRIES = [
    DOT.join(parts)
    for parts in [("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs"), ("deb", "debian", "org")]
]
MACHINE_PATHS = re.compile(
    r"(?<![\w.])/(" + "|".join(["wor" + "k", "roo" + "t", "opt/whe" + "els", "opt/py" + "pi"]) + r")/"
)


@cache
def texts() -> dict[str, str]:
    """Read every text file that is committed, or would be."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no git repository here (an unpacked archive)")
    found = {}
    for name in filter(None, done.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (raw := path.read_bytes()):
            found[name] = raw.decode("utf-8")
    return found


def test_no_file_names_a_registry() -> None:
    assert not [f"{name}: {host}" for name, text in texts().items() for host in REGISTRIES if host in text]


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    found = [
        f"{name}: {hit.group()}" for name, text in texts().items() for hit in MACHINE_PATHS.finditer(text)
    ]
    assert not found


@pytest.mark.parametrize("lock", LOCKS)
def test_each_locked_requirement_is_pinned_and_hashed(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^-|^[^#\s]\S* @ ", text, re.MULTILINE), "an option, or a requirement by address"
    requirements = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(requirements) > 10
    for requirement in requirements:
        assert re.match(
            r"[a-z0-9.-]+(?:\[[a-z,-]+\])?==\S+ (; [^\n]+ )?\\\n    --hash=sha256:[0-9a-f]{64}\b", requirement
        ), requirement


def pins(lock: str) -> set[str]:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    return set(re.findall(r"^[a-z0-9.-]+(?:\[[a-z,-]+\])?==\S+", text, re.MULTILINE))


def test_the_locks_are_up_to_date_with_each_other_and_the_project() -> None:
    """`make lock` mends both."""
    assert pins("run.txt") <= pins("test.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["server"]
    locked = {re.split(r"==|\[", pin)[0] for pin in pins("run.txt")}
    assert {re.split(r"[^\w-]", requirement)[0].lower() for requirement in wanted} <= locked


def test_the_npm_lock_has_hashes_and_no_addresses() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert name == "" or package["integrity"].startswith("sha512-"), name


def test_no_source_file_is_too_long() -> None:
    sizes = {
        name: text.count("\n")
        for name, text in texts().items()
        if name.startswith(("src/", "tests/", "scripts/")) and name.endswith(".py")
    }
    assert not {name: lines for name, lines in sizes.items() if lines > LONGEST}


def test_the_source_has_no_notes_to_self() -> None:
    note = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
    found = [
        f"{name}:{number}"
        for name, text in texts().items()
        if name.startswith("src/")
        for number, line in enumerate(text.splitlines(), 1)
        if note.search(line)
    ]
    assert not found


def test_changelog_fragments_are_named_so_that_towncrier_finds_them() -> None:
    """`12.feature.md`, a second one `12.feature.1.md`, and without an issue `+some-words.bugfix.md`."""
    towncrier = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    kinds = "|".join(kind["directory"] for kind in towncrier["type"])
    valid = re.compile(rf"changelog\.d/((\d+|\+[a-z0-9-]+)\.({kinds})(\.\d+)?|README)\.md")
    assert not [name for name in texts() if name.startswith("changelog.d/") and not valid.fullmatch(name)]


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make run" in readme
    assert "make test" in readme


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony.split() == re.findall(r"^([a-z-]+):.*?## \S", makefile, re.MULTILINE)


def test_the_architecture_page_names_files_that_exist() -> None:
    """Every file in the table of docs/ARCHITECTURE.md is there: rule, code and test can be followed."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text("utf-8")
    named = {
        name for name in re.findall(r"`([a-z_/]+\.py)`", page) if "/" in name or name in ("db.py", "slmgr.py")
    }
    assert len(named) > 30
    missing = [
        name
        for name in named
        if not (ROOT / ("" if name.startswith("tests/") else "src/volact") / name).exists()
    ]
    assert missing == []
