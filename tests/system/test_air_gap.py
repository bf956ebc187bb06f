"""P1 whole, in two sets of network namespaces that no path joins: docs/how-to/air-gap.md, followed literally.

Inside: a VAMT, four machines with SSH servers, a KMS host. Outside: another VAMT, and the publisher's authority. What the
test carries are the bytes of the files on the medium, and nothing else.
"""

import getpass
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from authority_process import Home, Serving
from forking import Forking
from inprocess import Done
from namespaces import Namespace, network
from searching_bytes import found_in
from sshd import Sshd
from volact.lab import sample
from volact.signing import Signer
from volact.vamt.collecting.targets import SSH_PORT
from walking import Step, follow
from world import PRODUCT

pytestmark = pytest.mark.sockets

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "air-gap.md"
MEDIUM = "/media/usb"
INSIDE, OUTSIDE, HOST = "vamt-in", "vamt-out", "kms1"
AUTHORITY_PORT = 8443
ID = re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])", re.ASCII)
TIME_ZONE = "Antarctica/Troll"
USERS = ("canaryalice", "canarybert", "canarychris", "canarydora")
NOTES = ("canary of floor 7", "canary of floor 8", "canary of the vault", "canary of the rack")


class Place:
    """One machine: its namespace, its home, and the folder that commands are given in."""

    def __init__(self, folder: Path, within: Namespace, facts: dict[str, object] | None = None) -> None:
        self.folder, self.within = folder, within
        self.home = folder / "home"
        (folder / "medium").mkdir(parents=True)
        (folder / "facts.json").write_text(json.dumps(facts or {}))
        own = {name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")}
        self.settings = {
            "VOLACT_HOME": str(self.home),
            "VOLACT_MACHINE_FACTS": str(folder / "facts.json"),
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "TZ": TIME_ZONE,
        }
        self.environ = {**own, **self.settings}

    @property
    def medium(self) -> Path:
        """What this machine has as /media/usb."""
        return self.folder / "medium"


class Sites:
    """Both sides."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.forking = stack.enter_context(Forking())
        inside = stack.enter_context(network("in", "10.77.0", [INSIDE, HOST, *sample.MACHINES]))
        outside = stack.enter_context(network("out", "10.78.0", [OUTSIDE, "authority"]))
        self.inside = {
            name: Place(folder / "inside" / name, one, sample.MACHINES.get(name))
            for name, one in inside.items()
        }
        self.outside = {OUTSIDE: Place(folder / "outside" / OUTSIDE, outside[OUTSIDE])}
        self.places = {**self.inside, **self.outside}
        self.authority = outside["authority"]
        self.fingerprint = self.last = ""
        self.planted = False
        self.servers: dict[str, Sshd] = {}
        self.publisher = Home(folder / "outside" / "publisher")
        self._publish(stack)
        self._machines(stack)

    def _publish(self, stack: ExitStack) -> None:
        url = f"https://{self.authority.address}:{AUTHORITY_PORT}"
        (self.publisher.folder).mkdir(parents=True)
        self.publisher.set_up("", "--url", url)
        self.mak, self.retail = self.publisher.key(activations=4), self.publisher.key("retail")
        self.host_key = self.publisher.key("kms-host")
        stack.enter_context(
            Serving(self.publisher, f"{self.authority.address}:{AUTHORITY_PORT}", self.authority)
        )
        for name in (INSIDE, OUTSIDE, HOST):
            folder = self.places[name].folder
            shutil.copy(self.publisher.folder / "cad.volact-product", folder / f"{PRODUCT}.volact-product")
            (folder / "root.json").write_text(json.dumps(self.publisher.product["root"]))
        (self.places[HOST].folder / "kms-host-key.txt").write_text(self.host_key.text() + "\n")

    def _machines(self, stack: ExitStack) -> None:
        """SSH servers with one user's key, the product on each machine, and the retail key on the first."""
        vamt = self.places[INSIDE].folder
        listed, known = ["name,address,mac,group"], []
        for name in sample.MACHINES:
            place, full = self.places[name], sample.MACHINES[name]["name"]
            (place.folder / "ssh").mkdir()
            for file in vamt.glob("id_vamt*"):
                shutil.copy(file, place.folder / "ssh" / file.name.replace("id_vamt", "user_key"))
            server = stack.enter_context(Sshd(place.folder / "ssh", within=place.within, **place.settings))
            self.servers[name] = server
            for file in server.folder.glob("user_key*"):
                shutil.copy(file, vamt / file.name.replace("user_key", "id_vamt"))
            listed.append(f"{full},{place.within.address},{place.within.mac},{sample.GROUP}")
            known.append(f"{full},{place.within.address} {server.host_key}")
            product = str(self.publisher.folder / "cad.volact-product")
            self.run(name, "volact", "client", "install", product, f"--root={self.publisher.pub}")
        (vamt / "mak.txt").write_text(self.mak.text() + "\n")
        (vamt / "passphrase.txt").write_text("correct horse battery staple\n")
        (vamt / "passphrase.txt").chmod(0o600)
        (vamt / "machines.csv").write_text("\n".join(listed) + "\n")
        (vamt / "known_hosts").write_text("\n".join(known) + "\n")
        first, request, response = sample.WITH_RETAIL_KEY, vamt / "request", vamt / "response"
        self.run(first, "slmgr", "/ipk", "-", stdin=self.retail.text())
        self.run(first, "slmgr", "/dti", str(request))
        self.publisher.run("answer", str(request), "-o", str(response))
        self.run(first, "slmgr", "/atp", str(response))

    def give(self, place: str, words: list[str], stdin: str = "") -> Done:
        """Give a command at a place."""
        there = self.places[place]
        return self.forking.run(words, there.within, there.environ, there.folder, stdin)

    def run(self, place: str, *words: str, code: int = 0, stdin: str = "") -> Any:
        """Give a command at a place with --json."""
        done = self.give(place, [*words, "--json"], stdin)
        assert done.code == code, (place, words, done)
        return json.loads(done.out)

    def follow(self, step: Step) -> tuple[str, Done]:
        """Give a command of the page: what is on the medium is carried before, and of the ids that it names there is one."""
        there = self.places[step.place]
        self.carry(step.place)
        command = ID.sub(self.fingerprint, step.command) if self.fingerprint else step.command
        words = [word.replace(MEDIUM, str(there.medium)) for word in shlex.split(command)]
        done = self.give(step.place, words)
        assert done.code == 0, (step, done)
        if words[:3] == ["volact", "vamt", "init"] and step.place == INSIDE:
            self.fingerprint = done.out.split()[1]
        if words[:3] == ["volact", "vamt", "collect"] and not self.planted:
            self.plant()
            self.planted = True
        return command, Done(done.code, *[text.replace(str(there.medium), MEDIUM) for text in done[1:]])

    def carry(self, place: str) -> None:
        """Bring the medium to a place: the files' bytes, and nothing else."""
        if self.last not in ("", place):
            for file in self.places[self.last].medium.iterdir():
                (self.places[place].medium / file.name).write_bytes(file.read_bytes())
        self.last = place

    def no_path(self) -> None:
        """Nobody on one side reaches anybody on the other; within a side they do."""
        inner = [self.places[name].within for name in (INSIDE, HOST, *sample.MACHINES)]
        outer = [self.places[OUTSIDE].within, self.authority]
        for one in inner:
            found = one.connects(*[(other.address, AUTHORITY_PORT) for other in outer])
            assert found == ["ENETUNREACH"] * len(outer)
        for one in outer:
            found = one.connects(*[(other.address, SSH_PORT) for other in inner])
            assert found == ["ENETUNREACH"] * len(inner)
        assert outer[0].connects((self.authority.address, AUTHORITY_PORT)) == ["connected"]
        there = [(self.places[name].within.address, SSH_PORT) for name in sample.MACHINES]
        assert inner[0].connects(*there) == ["connected"] * len(there)

    # --- what must not be on the medium ---------------------------------------------------------------------------

    def plant(self) -> None:
        """Let VAMT know more of the machines and of people than it may tell."""
        for number, name in enumerate(sample.MACHINES):
            self.run(INSIDE, "volact", "vamt", "machine", "note", name, "--text", NOTES[number])
        for user in USERS:
            self.run(INSIDE, "volact", "vamt", "user", "add", user, "--role", "operator")

    def canaries(self) -> list[str]:
        """Names, domains, addresses, MACs, hardware, users, notes, paths, the time zone, and the keys."""
        found = [
            *USERS,
            *NOTES,
            TIME_ZONE,
            sample.GROUP,
            "secure.example",
            self.mak.text(),
            self.host_key.text(),
        ]
        for place in self.inside.values():
            found += [place.within.address, place.within.mac, place.within.name, str(place.folder)]
        for name, facts in sample.MACHINES.items():
            hardware = [facts[part] for part in ("uuid", "board", "disk", "os", "net") if part in facts]
            found += [name, *map(str, hardware)]
        return found

    def on_medium(self, name: str) -> bytes:
        """A file as it left the isolated side."""
        return (self.places[INSIDE].medium / name).read_bytes()


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    with ExitStack() as stack:
        yield Sites(tmp_path, stack)


def test_the_page_is_true_and_no_path_is_needed(sites: Sites) -> None:
    sites.no_path()
    follow(PAGE, sites.follow)
    proxy_data_says_nothing_of_anybody(sites)
    both_sides_have_receipts(sites)
    what_was_given_back_is_refused(sites)
    a_full_list_goes_the_same_way(sites)
    what_came_of_it(sites)
    sites.no_path()


def proxy_data_says_nothing_of_anybody(sites: Sites) -> None:
    """P2, M8: in no layer of the files that went out, and a full list is searched in the same way below."""
    words = sites.canaries()
    assert len(set(words)) == len(words) >= 50
    for name in ("out.cil", "return.cil"):
        assert found_in(sites.on_medium(name), words) == []


def both_sides_have_receipts(sites: Sites) -> None:
    """P3: of the same rows; inside by the key's label, which VAMT holds, outside by its thumbprint."""
    sides = {}
    for place in (INSIDE, OUTSIDE):
        lists = sites.run(place, "volact", "vamt", "lists")
        (asked,) = [
            one for one in lists if one["mode"] == "proxy" and one["rows"] == 4 and not one["answers"]
        ]
        rows = sites.run(place, "volact", "vamt", "receipt", asked["list"])["outcomes"]
        sides[place] = {one["row"]: one for one in rows}
        assert all(one["time"] and one["who"] == getpass.getuser() for one in rows)
    assert sides[INSIDE].keys() == sides[OUTSIDE].keys()
    mak, host = (Signer(key.private_key(sites.publisher.pub)).kid for key in (sites.mak, sites.host_key))
    for place, activated, handed, shown in (
        (INSIDE, "applied", "handed", sites.mak.label),
        (OUTSIDE, "answered", "answered", mak),
    ):
        said = sorted((one["operation"], one["state"], one["key"]) for one in sides[place].values())
        assert said == [("activate", activated, shown)] * 3 + [("host", handed, host)]


def what_was_given_back_is_refused(sites: Sites) -> None:
    """M6: VAMT has forgotten its confirmation; brought from the old list the machine refuses it."""
    vamt, name = ("volact", "vamt"), "sec-ws-03"
    assert sites.run(INSIDE, *vamt, "apply", "--kept", "--machine", name, code=1)["code"] == "list-empty"
    (first,) = [one for one in sites.run(INSIDE, *vamt, "lists") if one["rows"] == 4 and not one["answers"]]
    done = sites.run(INSIDE, *vamt, "apply", first["list"], "--again")["outcomes"]
    failed = {one["machine"]: one["code"] for one in done if one["state"] == "failed"}
    assert failed.pop(f"{name}.secure.example") == "activation-returned"
    assert list(failed.values()) == ["host-by-hand"]


def a_full_list_goes_the_same_way(sites: Sites) -> None:
    """With names for people outside, who pinned its writer; its machine is off when the answer comes, and stays pending.

    The machine that gave its activation back asks anew, and is counted (row 13); the KMS host is extended (P5).
    """
    name, vamt, host = "sec-ws-03", ("volact", "vamt"), ("volact", "kmshost")
    sites.run(name, "slmgr", "/ipk", "-", stdin=sites.mak.text())
    sites.carry(HOST)
    sites.run(HOST, *host, "extend", "--request-file", str(sites.places[HOST].medium / "extension"))
    sites.carry(INSIDE)
    medium = sites.places[INSIDE].medium
    full, back = str(medium / "full.cil"), str(medium / "full-back.cil")
    made = sites.run(INSIDE, *vamt, "export", full, name, "--request", str(medium / "extension"))
    within = sites.places[name].within
    words = [name, "secure.example", within.address, within.mac]
    assert found_in(sites.on_medium("full.cil"), words) == words
    sites.carry(OUTSIDE)
    there = sites.places[OUTSIDE].medium
    took = sites.run(OUTSIDE, *vamt, "import", str(there / "full.cil"))
    assert (took["list"], took["machines"], took["writer"]["trusted"]) == (made["list"], 1, True)
    assert [one["name"] for one in sites.run(OUTSIDE, *vamt, "machine", "list")["rows"]] == [name]
    assert sites.run(OUTSIDE, *vamt, "acquire")["answered"] == 2
    sites.run(OUTSIDE, *vamt, "export", str(there / "full-back.cil"), "--answers", "newest")
    sites.carry(INSIDE)
    assert sites.run(INSIDE, *vamt, "import", back)["counts"] == {"answered": 2}
    sites.servers[name].close()
    off = sites.run(INSIDE, *vamt, "apply", code=1)["outcomes"]
    assert {one["operation"]: one["code"] for one in off} == {
        "activate": "unreachable-port",
        "extend": "host-by-hand",
    }
    sites.servers[name].__enter__()
    on = {one["operation"]: one for one in sites.run(INSIDE, *vamt, "apply")["outcomes"]}
    row = on["activate"]
    assert (row["machine"], row["state"], row["code"]) == (f"{name}.secure.example", "applied", None)
    assert sites.run(INSIDE, *vamt, "apply", "--into", str(medium))["written"] == 1
    sites.carry(HOST)
    response = str(sites.places[HOST].medium / f"extend-{PRODUCT}.json")
    before = sites.run(HOST, *host, "status")["until"]
    assert sites.run(HOST, *host, "extend", "--response-file", response)["until"] > before


def what_came_of_it(sites: Sites) -> None:
    """One with its retail key and three with the MAK are licensed; the host may grant leases."""
    for name in sample.MACHINES:
        (product,) = sites.run(name, "volact", "client", "status")["products"]
        key = sites.retail if name == sample.WITH_RETAIL_KEY else sites.mak
        said = (product["state_name"], product["channel"], product["partial_key"])
        assert said == ("Licensed", key.kind, key.label), name
    host = sites.run(HOST, "volact", "kmshost", "status")
    assert host["activated"] is True
    assert [one["product"] for one in host["products"] if one["served"]] == [PRODUCT]
    (key,) = [one for one in sites.publisher.run("key", "list") if one["label"] == sites.mak.label]
    assert (key["bought"], key["activated"], key["remaining"]) == (4, 4, 0), (
        "a return by file frees its seat later"
    )
