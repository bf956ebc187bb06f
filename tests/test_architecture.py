"""The tree is the architecture: holds the import table and the pure modules of DESIGN section 3."""

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "volact"

ROLES = {"authority", "kmshost", "vamt", "compliance"}
SHARED = {"signing", "facts", "calls", "http", "db", "statements", "config", "clock", "files", "console"}
SHARED |= {"stores", "tables", "grouping", "certificate", "commands"}  # of the servers alone, as are these
SHARED |= {"sources", "tsig", "founding"}
EDGE = {"cli", "slmgr", "lab", "quickstart", "doctor", "completion", "children"}
ALL = {"protocol", "client", "web"} | ROLES | SHARED | EDGE

# Who may import whom: a unit is a package or module right under volact. A unit may always import itself.
MAY_IMPORT: dict[str, set[str]] = {
    **{
        unit: set() for unit in ("protocol", "db", "statements", "tables", "config", "clock", "files", "tsig")
    },
    **{
        unit: {"protocol", "config", "clock", "files"}
        for unit in ("signing", "facts", "calls", "http", "console")
    },
    "http": {"protocol", "config", "clock", "files", "certificate"},
    "stores": {"protocol", "config", "db"},
    "founding": {"protocol", "files", "stores"},
    **{unit: {"protocol"} for unit in ("grouping", "sources")},
    "certificate": {"protocol", "config", "files", "calls"},
    "commands": {"protocol", "files", "console"},
    "client": {"protocol", "signing", "facts", "calls", "config", "clock", "files", "console"},
    **{role: {"protocol"} | SHARED for role in ROLES},
    "web": ALL - {"cli", "slmgr", "lab"},
    "cli": ALL,
    **{unit: ALL - {"web"} for unit in ("slmgr", "lab", "quickstart", "doctor", "completion", "children")},
    "__init__": {"client", "protocol"},
    "__main__": {"cli"},
}
# Packages below a unit. A new folder needs a line here, and a word in DESIGN why a file would not do.
INNER = {"vamt/api", "vamt/discovering", "vamt/collecting", "compliance/sources"}
INNER |= {f"{role}/{folder}" for role in ROLES for folder in ("migrations", "migrations/versions")}

# What a product ships must stay small: third-party packages that these units may import at all.
THIRD_PARTY = {"protocol": {"cryptography"}} | {
    unit: {"cryptography", "dns"} for unit in MAY_IMPORT["client"] - {"protocol"} | {"client", "__init__"}
}
# The standard library that a pure module may use: no I/O, clock, random, environment or logging in it.
PURE_LIBRARY = set(
    "__future__ abc base64 binascii bisect collections contextlib copy dataclasses datetime decimal enum "
    "fractions functools hashlib heapq hmac ipaddress itertools json math operator re string struct textwrap "
    "types typing unicodedata xml zlib".split()
)
# Calls that reach outside from modules that are allowed: `datetime.now`, a new key's randomness, ...
IMPURE_CALLS = set(
    "open print input exec eval __import__ now utcnow today generate_private_key urandom".split()
)


@cache
def trees() -> dict[str, ast.Module]:
    """Parse the source: path under volact -> syntax tree."""
    files = sorted(SOURCE.rglob("*.py"))
    assert files, "src/volact holds no Python"
    return {str(f.relative_to(SOURCE)): ast.parse(f.read_text(encoding="utf-8"), str(f)) for f in files}


def unit_of(path: str) -> str:
    """`authority/store.py` -> `authority`; `calls.py` -> `calls`."""
    return path.split("/", maxsplit=1)[0].removesuffix(".py")


def imports_of(path: str) -> Iterator[tuple[str, int]]:
    """Every import of a file, those inside functions and for types too, as (dotted name, line)."""
    for node in ast.walk(trees()[path]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import with its full name"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def module_path(dotted: str) -> str | None:
    """Find the file that `volact.a.b` or `volact.a.b.name` comes from; None when it is none of ours."""
    parts = dotted.split(".")
    if parts[0] != "volact":
        return None
    for length in range(len(parts), 0, -1):
        base = "/".join(parts[1:length])
        for candidate in (f"{base}.py", f"{base}/__init__.py".lstrip("/")):
            if candidate in trees():
                return candidate
    return None


def pure_files() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["volact"]
    return sorted(str(f.relative_to(SOURCE)) for pattern in settings["pure"] for f in SOURCE.glob(pattern))


def test_every_package_is_one_of_the_design() -> None:
    unknown = {unit_of(path) for path in trees()} - MAY_IMPORT.keys()
    assert not unknown, f"not in DESIGN section 3: {sorted(unknown)}"
    folders = {str(Path(path).parent) for path in trees()} - {"."}
    assert not {f for f in folders if "/" in f} - INNER, "a package inside a package: would a file do?"
    vague = {"core", "services", "domain", "utils", "helpers", "common", "misc"}
    assert not [path for path in trees() if vague & set(path.removesuffix(".py").split("/"))]


def test_units_import_only_what_the_table_allows() -> None:
    wrong = []
    for path in trees():
        unit = unit_of(path)
        for dotted, line in imports_of(path):
            first, *rest = dotted.split(".")
            if first == "volact":
                target = rest[0] if rest and rest[0] in ALL else "__init__"
                if target != unit and target not in MAY_IMPORT[unit] | {"__init__"}:
                    wrong.append(f"{path}:{line}: {unit} may not import {target}")
            elif first not in sys.stdlib_module_names and first not in THIRD_PARTY.get(unit, {first}):
                wrong.append(f"{path}:{line}: {unit} may not import {first}: it is shipped in products")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_round_a_corner() -> None:
    # Not counted: volact/__init__.py itself, which anyone may ask for the version, and which loads check() late.
    uncounted = {None, "__init__.py"}
    graph = {
        path: {module_path(name) for name, _ in imports_of(path)} - {path} - uncounted for path in trees()
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail("a cycle of imports: " + " <- ".join(map(str, error.args[1])))


def test_pure_modules_have_no_input_output_clock_or_chance() -> None:
    wrong = []
    for path in pure_files():
        allowed = PURE_LIBRARY | {"volact"} | ({"cryptography"} if unit_of(path) == "protocol" else set())
        for dotted, line in imports_of(path):
            target = module_path(dotted)
            if dotted.split(".")[0] not in allowed:
                wrong.append(f"{path}:{line}: imports {dotted}")
            elif target and target not in pure_files() and not target.endswith("__init__.py"):
                wrong.append(f"{path}:{line}: imports {target}, which is not pure")
        for node in ast.walk(trees()[path]):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called in IMPURE_CALLS:
                    wrong.append(f"{path}:{node.lineno}: calls {called}()")
    assert not wrong, "\n".join(wrong)


# What `check()` cannot do without; measured beside it, in a process of its own.
FLOOR = "import base64, hashlib, json; from cryptography.hazmat.primitives import hashes; from cryptography.hazmat.primitives.asymmetric import ec"
# Each would cost a cold start whole milliseconds.
TOO_DEAR = set("dataclasses inspect logging http.client ssl pathlib asyncio".split())


def loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter; answer which modules it loaded."""
    script = f"import sys; before = set(sys.modules)\n{code}\nafter = set(sys.modules) - before\nimport json; print(json.dumps(sorted(after)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_check_starts_cold_with_the_standard_library_and_cryptography_only() -> None:
    """The whole process may take 1.2 times an interpreter that imports FLOOR."""
    has_client = "client/__init__.py" in trees()
    loaded = loaded_by("import volact\n" + ("volact.check" if has_client else "")) - loaded_by(FLOOR)
    allowed = sys.stdlib_module_names | {"volact", "cryptography", "_cffi_backend"}
    assert not {name for name in loaded if name.split(".")[0] not in allowed}
    assert not loaded & TOO_DEAR, f"too dear for a cold start: {sorted(loaded & TOO_DEAR)}"
