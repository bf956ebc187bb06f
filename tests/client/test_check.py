"""`volact.check()`: never raises for a licence, costs little, sees what there is (DESIGN section 5, rule E)."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import volact
from client.machine import FOREIGN, PARTS, Machine
from client.publisher import PRODUCT, Publisher
from volact import clock
from volact.client import folder
from volact.client.state import NAME, State
from volact.protocol import jws
from volact.protocol.documents import typ_of
from volact.protocol.policy import DAY
from volact.protocol.problems import UsageError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """An activated machine of a laboratory, whose facts and clock come from files."""
    machine = Machine(tmp_path / "home", Publisher(iat=int(time.time()) - 1000))
    machine.clock.wall = int(time.time())
    machine.clock.since_boot = clock.SystemClock().running()
    monkeypatch.setattr(machine.clock, "boot", clock.SystemClock().boot)
    machine.activated()
    monkeypatch.setenv("VOLACT_HOME", str(machine.home))
    show(machine, monkeypatch, PARTS)
    return machine


def show(machine: Machine, monkeypatch: pytest.MonkeyPatch, parts: dict[str, str]) -> None:
    path = machine.home / "facts.json"
    path.write_text(json.dumps(parts))
    monkeypatch.setenv("VOLACT_MACHINE_FACTS", str(path))


def checked(machine: Machine) -> volact.Licence:
    return volact.check(PRODUCT, root=machine.publisher.pub, allow_lab=True)


def test_an_activated_machine_is_licensed(machine: Machine) -> None:
    assert checked(machine) == (1, "activated", None, "")
    assert checked(machine).licensed


def test_a_laboratory_s_licence_counts_only_when_it_is_asked_for(machine: Machine) -> None:
    assert volact.check(PRODUCT, root=machine.publisher.pub)[:2] == (0, "lab-publisher")


def test_facts_and_clock_of_a_laboratory_are_heard_and_no_others(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    show(machine, monkeypatch, FOREIGN)
    assert checked(machine)[:2] == (0, "other-machine")
    show(machine, monkeypatch, {**PARTS, "uuid": FOREIGN["uuid"], "board": "x y"})
    assert checked(machine)[:2] == (3, "hardware-changed")
    real = Machine(tmp_path / "real", Publisher(lab=False, iat=int(time.time())))
    real.clock.wall = int(time.time())
    real.install()
    monkeypatch.setenv("VOLACT_HOME", str(real.home))
    monkeypatch.setenv("VOLACT_LAB_CLOCK", str(tmp_path / "no-such-file"))
    assert volact.check(PRODUCT, root=real.publisher.pub).state == 2


def test_the_movable_clock_moves_a_laboratory(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.client.rearm()
    moved = tmp_path / "clock"
    monkeypatch.setenv("VOLACT_LAB_CLOCK", str(moved))
    for text, state in (("+29d", 2), ("+31d", 5)):
        moved.write_text(text)
        assert checked(machine).state == state
    for nonsense in ("tomorrow", ""):
        moved.write_text(nonsense)
        assert checked(machine).reason == "data-broken"
    moved.unlink()
    assert checked(machine).reason == "data-broken"


@pytest.mark.parametrize(
    ("product", "root"),
    [("No Product", "A" * 43), (PRODUCT, "A" * 42), (PRODUCT, ""), (7, "A" * 43), (PRODUCT, None)],
)
def test_only_a_wrong_call_raises(product: str, root: str) -> None:
    with pytest.raises(UsageError):
        volact.check(product, root=root)


def test_what_is_not_there_is_unlicensed(machine: Machine) -> None:
    assert volact.check("com.example.none", root=machine.publisher.pub)[:2] == (0, "product-not-installed")
    assert volact.check(PRODUCT, root="A" * 43)[:2] == (0, "product-not-installed")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _data: b"",
    "cut": lambda data: data[:-30],
    "text": lambda _data: b"hello",
    "array": lambda _data: b"[]",
    "zeroes": lambda data: b"\0" * len(data),
    "signature": lambda data: re.sub(
        rb'\.([A-Za-z0-9_-]{86})"', lambda found: b"." + found[1][::-1] + b'"', data, count=1
    ),
    "huge": lambda data: data + b" " * 2_000_000,
    "other": lambda _data: jws.write_json({"token": 7, "jwk": None, "chain": [], "roots": []}),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["root.json", "product.json", "grant.json", "state.json"])
def test_a_damaged_file_is_unlicensed_with_a_reason_and_no_exception(
    machine: Machine, name: str, damage: str
) -> None:
    path = machine.file(name)
    good = path.read_bytes()
    path.write_bytes(DAMAGE[damage](good))
    assert path.read_bytes() != good
    found = checked(machine)
    assert found[:2] == (0, "data-broken")
    assert found.warn
    path.write_bytes(good)
    assert checked(machine).licensed, "and remembers no damage"


@pytest.mark.parametrize("name", ["root.json", "product.json", "grant.json", "state.json"])
def test_a_file_in_the_wrong_place_is_unlicensed(machine: Machine, name: str, tmp_path: Path) -> None:
    """Another publisher's, or a folder of that name."""
    other = Machine(tmp_path / "other", Publisher()).activated()
    path = machine.file(name)
    path.write_bytes(other.file(name).read_bytes())
    assert checked(machine)[:2] == (0, "data-broken")
    path.unlink()
    path.mkdir()
    assert checked(machine)[:2] == (0, "not-readable")


def test_a_product_s_grant_serves_no_other_product(machine: Machine) -> None:
    machine.install("com.example.cam")
    for name in ("grant.json", "product.json"):
        machine.file(name, "com.example.cam").write_bytes(machine.file(name).read_bytes())
        found = volact.check("com.example.cam", root=machine.publisher.pub, allow_lab=True)
        assert found[:2] == (0, "data-broken")


def test_a_store_of_a_newer_version_says_so(machine: Machine) -> None:
    signer, state = machine.store.state(machine.publisher.pub) or pytest.fail("it has no state")
    payload = jws.write_json({**json.loads(state.payload()), "v": 6, "more": 1})
    bundle = {"token": signer.sign_payload(NAME, payload), "jwk": signer.jwk.members()}
    machine.file("state.json").write_bytes(jws.write_json(bundle))
    assert checked(machine)[:2] == (0, "store-newer")


def test_a_state_that_the_version_before_leases_wrote_is_read(machine: Machine) -> None:
    """Version 1, as it was written: no member of a lease."""
    signer, state = machine.store.state(machine.publisher.pub) or pytest.fail("it has no state")
    members = json.loads(state.payload())
    names = ("started", "fp", "rearms", "key_removed", "changed", "blocked", "next_try")
    products = {
        product: {name: record[name] for name in names} for product, record in members["products"].items()
    }
    payload = jws.write_json({**members, "v": 1, "products": products})
    bundle = {"token": signer.sign_payload(NAME, payload), "jwk": signer.jwk.members()}
    machine.file("state.json").write_bytes(jws.write_json(bundle))
    assert checked(machine).licensed
    machine.client.activate()
    assert json.loads(machine.store.state(machine.publisher.pub)[1].payload())["v"] == 5  # type: ignore[index]


def test_a_state_that_the_version_before_returns_wrote_is_read(machine: Machine) -> None:
    signer, state = machine.store.state(machine.publisher.pub) or pytest.fail("it has no state")
    members = json.loads(state.payload())
    for record in members["products"].values():
        del record["given_back"], record["returned"]
    payload = jws.write_json({**members, "v": 3})
    bundle = {"token": signer.sign_payload(NAME, payload), "jwk": signer.jwk.members()}
    machine.file("state.json").write_bytes(jws.write_json(bundle))
    assert checked(machine).licensed


@pytest.mark.parametrize(
    "returned",
    [
        "a",
        0,
        ["a"],
        [[]],
        [["a", "b"]],
        [["a", "b", "1"]],
        [["a", 1, 1]],
        [[1, "b", 1]],
        ["a", "b", 1],
        {"a": 1},
    ],
)
def test_a_state_with_a_broken_return_is_damaged(machine: Machine, returned: object) -> None:
    signer, state = machine.store.state(machine.publisher.pub) or pytest.fail("it has no state")
    members = json.loads(state.payload())
    for record in members["products"].values():
        record["returned"] = returned
    bundle = {"token": signer.sign_payload(NAME, jws.write_json(members)), "jwk": signer.jwk.members()}
    machine.file("state.json").write_bytes(jws.write_json(bundle))
    assert checked(machine)[:2] == (0, "data-broken")


@pytest.mark.parametrize("drop", ["clock", "products", "pair", "v"])
def test_a_state_that_is_signed_and_not_complete_is_damaged(machine: Machine, drop: str) -> None:
    signer, state = machine.store.state(machine.publisher.pub) or pytest.fail("it has no state")
    members = json.loads(state.payload())
    del members[drop]
    bundle = {"token": signer.sign_payload(NAME, jws.write_json(members)), "jwk": signer.jwk.members()}
    machine.file("state.json").write_bytes(jws.write_json(bundle))
    assert checked(machine)[:2] == (0, "data-broken")


def test_a_state_is_no_other_document(machine: Machine) -> None:
    signer, state = machine.store.state(machine.publisher.pub) or pytest.fail("it has no state")
    token = jws.sign(typ_of("request"), signer.kid, state.payload(), signer._key)
    machine.file("state.json").write_bytes(jws.write_json({"token": token, "jwk": signer.jwk.members()}))
    assert checked(machine)[:2] == (0, "data-broken")


def test_a_state_survives_its_file() -> None:
    from volact.client import state as states
    from volact.client.state import Record
    from volact.client.timekeeping import Fold
    from volact.signing import generate

    signer = generate()
    record = Record(1, {"os": "AAAAAAAAAAA"}, 2, True, 3, 4, 5)
    found = State(
        signer.kid,
        "A" * 43,
        Fold(1, 2, 3, 4, 5, "x"),
        {PRODUCT: record},
        6,
        (7, 8),
        ("a",),
        (("act", "a", "all"),),
        9,
    )
    bundle = {"token": signer.sign_payload(NAME, found.payload()), "jwk": signer.jwk.members()}
    assert states.read(bundle, "here") == found


def test_check_writes_nothing(machine: Machine) -> None:
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in machine.home.rglob("*.*")
        if path.is_file()
    }
    checked(machine)
    after = {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in machine.home.rglob("*.*")
        if path.is_file()
    }
    assert after == before


def test_the_system_s_folder_is_read_before_the_user_s(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from volact import config

    user = Machine(tmp_path / "data" / "volact", machine.publisher)
    user.clock = machine.clock
    user.install()
    monkeypatch.delenv("VOLACT_HOME")
    monkeypatch.setattr(config, "SYSTEM_HOME", str(machine.home))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert checked(machine).licensed
    machine.file("product.json").unlink()
    assert checked(machine).state == 2
    monkeypatch.setattr(config, "SYSTEM_HOME", str(tmp_path / "nothing"))
    assert checked(machine).state == 2


def test_more_files_than_are_remembered_do_no_harm(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_MOST_REMEMBERED", 1)
    for _ in range(3):
        assert checked(machine).licensed


def test_a_warm_check_is_quick(machine: Machine) -> None:
    """0.5 ms is the figure; a shared core gets four times that here, and `make bench` measures it."""
    checked(machine)
    best = min(timed(lambda: checked(machine)) for _ in range(50))
    assert best < 0.002


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


DEAR = set(
    "dataclasses inspect logging pathlib ssl http.client argparse asyncio tempfile subprocess uuid datetime "
    "tomllib socket random.seed shutil urllib.parse volact.signing volact.files volact.calls".split()
)


def test_a_cold_check_loads_no_module_that_is_dear(machine: Machine) -> None:
    """Beyond what cryptography itself loads."""
    floor = "from cryptography.hazmat.primitives import hashes\nfrom cryptography.hazmat.primitives.asymmetric import ec\n"
    code = (
        f"import sys, json, base64, hashlib\n{floor}before = set(sys.modules)\nimport volact\n"
        f"licence = volact.check({PRODUCT!r}, root={machine.publisher.pub!r}, allow_lab=True)\n"
        "print(json.dumps([licence.licensed, sorted(set(sys.modules) - before)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    licensed, loaded = json.loads(done.stdout)
    assert licensed
    assert not DEAR & set(loaded)
    ours = {name for name in loaded if name.startswith("volact.client.")}
    assert ours == {
        f"volact.client.{name}" for name in ("check", "folder", "lifecycle", "state", "timekeeping")
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_may_check(machine: Machine) -> None:
    """In a child that has loaded everything and then gives its rights away: no folder of root's is opened up."""
    top = machine.home
    while top != Path("/tmp"):
        top.chmod(0o755) if top.owner() == "root" else None
        top = top.parent
    assert checked(machine).licensed
    folder._remembered.clear()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            found = checked(machine)
            identity = os.access(machine.file("identity.pem"), os.R_OK)
            os.write(write, json.dumps([found.state, found.reason, identity]).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert json.loads(os.read(read, 1000)) == [1, "activated", False]


def test_thirty_days_are_thirty_days_for_check(machine: Machine) -> None:
    machine.client.rearm()
    found = checked(machine)
    assert found.expires
    assert abs(found.expires.timestamp() - time.time() - 30 * DAY) < 60


@pytest.mark.parametrize(("noted", "end"), [(-1, -1), (0, 0), (1, 0), (3650 * DAY, 0)])
def test_a_note_makes_no_lease_longer_than_its_host_signed(tmp_path: Path, noted: int, end: int) -> None:
    """PROTOCOL section 3: min(exp, ...), whoever wrote the note."""
    machine = Machine(tmp_path / "home", Publisher()).leased()
    exp = machine.clock.wall + 180 * DAY
    found = machine.store.state(machine.publisher.pub)
    assert found
    signer, state = found
    record = state.products[PRODUCT]._replace(lease_end=exp + noted)
    machine.store.write_state(signer, state._replace(products={PRODUCT: record}))
    assert machine.standing().end == exp + end
