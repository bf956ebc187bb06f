"""The fleet against a host that the test holds in its hand, over real HTTPS on loopback."""

import json
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from client import server as misbehaviour
from client.kms_server import KmsServer
from client.publisher import PRODUCT, Publisher
from lab.counting_host import CountingHost, served
from volact.client.address import Address
from volact.lab import cli, machines
from volact.lab.fleet import Effort, Fleet, percentile
from volact.lab.handclock import HandClock
from volact.lab.load import Drive
from volact.lab.machines import Product
from volact.protocol import machine, trust
from volact.protocol.problems import BrokenData, DocumentRefused, Refusal, Refused, Unreachable, VolactError

NOW = 1_800_000_000
DAY = 86400


class Lab(NamedTuple):
    """A counting host behind HTTPS, its publisher's product, and how to drive it."""

    host: CountingHost
    server: KmsServer
    product: Product
    clock: Any
    drive: Drive


class Standing:
    """A clock that stands still."""

    def now(self) -> int:
        return NOW

    def running(self) -> int:
        return 0

    def boot(self) -> str:
        return "boot"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    publisher = Publisher(iat=NOW)
    host = CountingHost(publisher, minimum=25, lifetime=30 * DAY)
    with served(tmp_path, host) as server:
        product = machines.read_product(publisher.product_file(), publisher.pub)
        drive = Drive(Address("127.0.0.1", server.port), (), 1)
        yield Lab(host, server, product, Standing(), drive)


def code_of(call: Any) -> str:
    with pytest.raises(VolactError) as error:
        call()
    return error.value.refusal.code


@pytest.mark.sockets
def test_the_first_24_are_refused_and_the_25th_is_granted(lab: Lab) -> None:
    """K1, K2: 27 machines ask in two rounds."""
    fleet = Fleet.make(27, lab.product)
    first = fleet.check_in_all(lab.drive, lab.clock)
    assert (first.granted, first.refused, first.failed, first.invalid) == (
        3,
        {"count-insufficient": 24},
        0,
        0,
    )
    assert (first.count, first.required) == (27, 25)
    second = fleet.check_in_all(lab.drive, lab.clock, verify=True)
    assert (second.granted, second.refused, second.verified) == (27, {}, 27)
    assert len({one["iss"] for one in lab.host.checkins}) == 27
    assert len({one["req"] for one in lab.host.checkins}) == 54, "a received refusal ends a request id"


@pytest.mark.sockets
@pytest.mark.parametrize("new", [False, True], ids=["kept", "new"])
def test_rounds_over_several_connections(lab: Lab, new: bool) -> None:
    fleet = Fleet.make(30, lab.product)
    tally = fleet.check_in_all(lab.drive._replace(connections=4, new_connections=new), lab.clock, Effort(3))
    figures = tally.document()
    assert (figures["requests"], figures["granted"]) == (90, 66)
    assert figures["refused"] == {"count-insufficient": 24}
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert lab.host.gets == 3, "one nonce a round"
    # The third round repeats the lease of the second: prev is what the machine holds.
    assert sum(1 for one in lab.host.checkins if one["prev"] is not None) == 36
    assert {one["state"] for one in lab.host.checkins} == {1, 2}


@pytest.mark.sockets
def test_seconds_end_a_run_without_rounds(lab: Lab) -> None:
    tally = Fleet.make(2, lab.product).check_in_all(lab.drive, lab.clock, Effort(None, 0.3))
    assert tally.rounds > 1
    assert tally.answered >= 2 * (tally.rounds - 1)


@pytest.mark.sockets
def test_every_checkin_is_what_the_protocol_says(lab: Lab) -> None:
    fleet = Fleet.make(3, lab.product)
    fleet.check_in_all(lab.drive, lab.clock)
    for one, member in zip(lab.host.checkins, fleet.members, strict=True):
        assert one["aud"] == lab.host.key.kid
        assert one["nonce"] == lab.host.nonce
        assert one["fp"] == member.fp
        assert (one["prd"], one["sub"], one["lab"]) == (PRODUCT, member.cmid, True)
        assert (one["state"], one["minutes"]) == (2, 30 * 24 * 60)
        assert one["vm"] is (member.number % 3 == 0)


@pytest.mark.sockets
def test_a_lost_answer_is_asked_for_again_under_the_same_id(lab: Lab) -> None:
    def cut_once(handler: Any) -> None:
        if handler.command == "POST":
            body = lab.server.requests[-1]
            lab.host.posted(body)
            lab.server.misbehave = None
            misbehaviour.cut(handler)
        else:
            misbehaviour.send(handler, *lab.server.got())

    lab.server.misbehave = cut_once
    tally = Fleet.make(1, lab.product).check_in_all(lab.drive, lab.clock)
    assert (tally.refused, tally.failed) == ({"count-insufficient": 1}, 0)
    assert len(lab.server.requests) == 2
    assert lab.server.requests[0] == lab.server.requests[1]


@pytest.mark.sockets
def test_a_lease_that_answers_another_is_invalid(lab: Lab) -> None:
    fleet = Fleet.make(1, lab.product)
    lab.host.answers.append(lambda asked: KmsLease.of(lab.host, asked, req="A" * 22))
    tally = fleet.check_in_all(lab.drive, lab.clock)
    assert (tally.granted, tally.invalid) == (0, 1)
    assert fleet.members[0].lease is None


class KmsLease:
    """A lease regardless of the count."""

    @staticmethod
    def of(host: CountingHost, asked: Any, **other: Any) -> Any:
        return super(CountingHost, host).lease(asked, **other)


@pytest.mark.sockets
def test_verify_finds_a_forged_lease_and_without_it_nobody_looks(lab: Lab) -> None:
    """The signature is the one thing that a fast generator does not look at."""

    def forged(asked: Any) -> Any:
        bundle = KmsLease.of(lab.host, asked)
        head, payload, signature = bundle["token"].split(".")
        bundle["token"] = f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
        return bundle

    lab.host.answers.append(forged)
    assert Fleet.make(1, lab.product).check_in_all(lab.drive, lab.clock).granted == 1
    lab.host.answers.append(forged)
    tally = Fleet.make(1, lab.product).check_in_all(lab.drive, lab.clock, verify=True)
    assert (tally.granted, tally.invalid) == (0, 1)


@pytest.mark.sockets
def test_a_host_that_proves_nothing_gets_nothing(lab: Lab, tmp_path: Path) -> None:
    fleet = Fleet.make(2, lab.product)
    ask = lambda: fleet.check_in_all(lab.drive, lab.clock)
    stranger = CountingHost(Publisher(iat=NOW), minimum=25, lifetime=DAY)
    lab.host.proofs.append(stranger.proof())
    assert code_of(ask) == "host-untrusted"
    lab.host.proofs.append({**lab.host.proof(), "token": lab.host.host_document(tls=["A" * 43])})
    assert code_of(ask) == "host-untrusted"
    lab.host.proofs.append({**lab.host.proof(), "nonce": ""})
    assert code_of(ask) == "host-untrusted"
    lab.host.proofs.append({**lab.host.proof(), "token": lab.host.host_document(prd=[])})
    assert code_of(ask) == "product-not-served"
    assert lab.server.requests == []


@pytest.mark.sockets
def test_no_real_publisher_is_called(tmp_path: Path) -> None:
    publisher = Publisher(iat=NOW, lab=False)
    with pytest.raises(Refused) as error:
        machines.read_product(publisher.product_file(), publisher.pub)
    assert error.value.refusal.code == "not-a-laboratory"
    host = CountingHost(publisher, minimum=25, lifetime=DAY)
    with served(tmp_path, host) as server:
        laboratory = Publisher(iat=NOW)
        product = machines.read_product(laboratory.product_file(), laboratory.pub)
        fleet = Fleet.make(1, product)
        fleet.pub = publisher.pub
        drive = Drive(Address("127.0.0.1", server.port), (), 1)
        assert code_of(lambda: fleet.check_in_all(drive, Standing())) == "not-a-laboratory"
        assert server.requests == []


@pytest.mark.sockets
def test_nobody_there(lab: Lab) -> None:
    fleet = Fleet.make(5, lab.product)
    lab.server.stop()
    with pytest.raises(Unreachable) as error:
        fleet.check_in_all(lab.drive, lab.clock)
    assert error.value.refusal.code == "host-unreachable"
    lab.server._thread.join()


@pytest.mark.sockets
def test_a_host_that_goes_in_between_is_unreachable(lab: Lab) -> None:
    def hang_up(handler: Any) -> None:
        if handler.command == "POST":
            handler.close_connection = True
        else:
            misbehaviour.send(handler, *lab.server.got())

    lab.server.misbehave = hang_up
    fleet = Fleet.make(5, lab.product)
    assert code_of(lambda: fleet.check_in_all(lab.drive, lab.clock)) == "host-unreachable"


def test_no_two_machines_are_taken_for_one(lab_product: Product) -> None:
    """K3, K14: keys, names and facts differ, and no host sees the same hardware twice."""
    fleet, other = Fleet.make(60, lab_product), Fleet.make(5, lab_product)
    assert len({one.cmid for one in fleet.members}) == 60
    for at, one in enumerate(fleet.members):
        for another in [*fleet.members[at + 1 :], *other.members]:
            assert machine.own_key(one.fp, another.fp) == machine.FOREIGN


def test_a_machine_reports_its_state_by_its_lease(lab_product: Product) -> None:
    """K7: Licensed to the last second, then 30 days out of tolerance, then Notification; rounded-down minutes."""
    one = machines.make(1, 7, lab_product)
    assert one.standing(NOW) == (2, 43200)
    one.take({"jti": "A" * 22, "iat": NOW, "exp": NOW + 180 * DAY})
    end = NOW + 180 * DAY
    assert one.standing(NOW) == (1, 259200)
    assert one.standing(end - 1) == (1, 0)
    assert one.standing(end) == (3, 43200)
    assert one.standing(end + 30 * DAY - 1) == (3, 0)
    assert one.standing(end + 30 * DAY) == (5, 0)
    one.take({"jti": "B" * 22, "iat": NOW, "exp": NOW + 400 * DAY})
    assert one.lease == ("B" * 22, NOW, end), "no longer than the product says"


def test_a_repeated_ask_has_the_same_content(lab_product: Product) -> None:
    one = machines.make(3, 7, lab_product)
    first = one.checkin("nonce", "H" * 43, NOW)
    again = one.checkin("other", "H" * 43, NOW + 1, req=first.req)
    claims = [
        trust.open_self_keyed(json.loads(ask.body), "checkin").document.claims for ask in (first, again)
    ]
    same = ("req", "prd", "fp", "prev", "vm", "name")
    assert [claims[0][name] for name in same] == [claims[1][name] for name in same]
    assert claims[0]["jti"] != claims[1]["jti"]


@pytest.mark.parametrize(
    ("values", "part", "found"),
    [
        ([], 99, 0.0),
        ([1.0], 50, 1.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 95, 4.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 101)], 95, 95.0),
    ],
    ids=["none", "one", "median", "p95 of four", "p99 of 100", "p95 of 100"],
)
def test_percentiles_by_nearest_rank(values: list[float], part: int, found: float) -> None:
    assert percentile(values, part) == found


@pytest.fixture(scope="module")
def lab_product() -> Product:
    publisher = Publisher(iat=NOW)
    return machines.read_product(publisher.product_file(), publisher.pub)


class TestState:
    def test_the_same_machines_come_back(self, lab_product: Product, tmp_path: Path) -> None:
        fleet, file = Fleet.make(3, lab_product), tmp_path / "fleet"
        fleet.members[1].take({"jti": "A" * 22, "iat": NOW, "exp": NOW + DAY})
        fleet.save(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        again = Fleet.load(file, {PRODUCT: lab_product})
        kept = [
            [(one.number, one.cmid, one.fp, one.lease) for one in some.members] for some in (again, fleet)
        ]
        assert kept[0] == kept[1]
        again.grow(5, lab_product)
        assert [one.number for one in again.members] == [0, 1, 2, 3, 4]
        again.grow(4, lab_product)
        assert len(again.members) == 5, "a kept machine is not forgotten"

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"{}",
            b"no json\n",
            b'{"v":1,"pub":"PUB","seed":1}\n{"number":1}\n',
            b'{"v":1,"pub":"PUB","seed":1}\n[]\n',
        ],
        ids=["empty", "no head", "no JSON", "half a row", "no row"],
    )
    def test_a_damaged_file(self, lab_product: Product, tmp_path: Path, damage: bytes) -> None:
        file = tmp_path / "fleet"
        file.write_bytes(damage.replace(b"PUB", lab_product.pub.encode()))
        file.chmod(0o600)
        with pytest.raises(BrokenData):
            Fleet.load(file, {PRODUCT: lab_product})

    def test_a_file_that_others_can_read(self, lab_product: Product, tmp_path: Path) -> None:
        file = tmp_path / "fleet"
        Fleet.make(1, lab_product).save(file)
        file.chmod(0o640)
        with pytest.raises(BrokenData) as error:
            Fleet.load(file, {PRODUCT: lab_product})
        assert error.value.refusal.code == "key-file-exposed"

    def test_another_publishers_machines(self, lab_product: Product, tmp_path: Path) -> None:
        file = tmp_path / "fleet"
        Fleet.make(1, lab_product).save(file)
        other = Publisher(iat=NOW)
        product = machines.read_product(other.product_file(), other.pub)
        with pytest.raises(BrokenData):
            Fleet.load(file, {PRODUCT: product})


def answer(status: int, body: bytes, handler: Any) -> None:
    misbehaviour.send(handler, status, body)


class TestCommand:
    def call(self, lab: Lab, tmp_path: Path, *words: str) -> list[str]:
        file = tmp_path / "cad.volact-product"
        file.write_bytes(lab.host.publisher.product_file())
        return [
            "fleet",
            "--host",
            str(lab.drive.address),
            "--product",
            str(file),
            "--root",
            lab.product.pub,
            *words,
        ]

    @pytest.mark.sockets
    def test_figures_as_json_and_as_prose(
        self, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        state = tmp_path / "state"
        words = self.call(lab, tmp_path, "--machines", "26", "--connections", "1", "--state", str(state))
        assert cli.main([*words, "--json"]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert (figures["granted"], figures["refused"]) == (2, {"count-insufficient": 24})
        assert cli.main(words) == 0
        prose = capsys.readouterr().out
        assert "granted  26\n" in prose
        assert "count    26, as the host said last" in prose
        assert len(lab.host.contacts) == 26, "the same machines"

    @pytest.mark.sockets
    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["--machines", "0"], 2, "--machines"),
            (["--machines", "2000001"], 2, "--machines"),
            (["--machines", "2", "--servers", "3"], 2, "--servers"),
            (["--servers", "1"], 2, "server product"),
            (["--connections", "0"], 2, "--connections"),
            (["--rounds", "0"], 2, "--rounds"),
            (["--seconds", "0"], 2, "--seconds"),
            (["--seconds", "nan"], 2, "--seconds"),
            (["--machines", "many"], 2, "--machines"),
            (["--machines", "1.5"], 2, "whole number"),
            (["--servers", "-1"], 2, "--servers must be 0 to 25, not -1."),
            (["--connections", "10001"], 2, "--connections must be 1 to 10000, not 10001."),
            (["--rounds", "1000001"], 2, "--rounds must be 1 to 1000000, not 1000001."),
            (["--state", "/does/not/exist"], 4, "/does/not/exist: No such file or directory."),
            (["--state", "/"], 4, "/: Is a directory."),
            (["--root", "A" * 42], 2, "--root"),
            (["--root", "-" + "A" * 42], 1, "root-mismatch"),
            (["--host", ":1688"], 2, "--host"),
            (["--host", "http://x"], 2, "URL"),
            (["--host", "127.0.0.1:1"], 3, "host-unreachable"),
            (["--product", "/does/not/exist"], 4, "not-readable"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_use(
        self,
        lab: Lab,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        words: list[str],
        code: int,
        said: str,
    ) -> None:
        call = self.call(lab, tmp_path)
        for name in ("--root", "--host", "--product"):
            if name in words:
                at = call.index(name)
                del call[at : at + 2]
        assert cli.main([*call, *words, "--json"]) == code
        out, err = capsys.readouterr()
        assert "code" in json.loads(out)
        assert said in err
        assert "Traceback" not in err
        assert lab.server.requests == []

    @pytest.mark.sockets
    def test_who_is_no_host_is_untrusted(
        self, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An authority has no such address; a web server says something else."""
        not_found = json.dumps(Refusal("not-found").document()).encode()
        for status, body in ((404, not_found), (405, not_found.replace(b"not-found", b"method-not-allowed"))):
            lab.server.misbehave = partial(answer, status, body)
            assert cli.main([*self.call(lab, tmp_path), "--json"]) == 3
            assert json.loads(capsys.readouterr().out)["code"] == "host-untrusted"
        lab.server.misbehave = partial(answer, 200, b"<html>")
        assert cli.main([*self.call(lab, tmp_path), "--json"]) == 3
        assert json.loads(capsys.readouterr().out)["code"] == "host-untrusted"
        lab.server.misbehave = partial(answer, 503, json.dumps(Refusal("busy").document()).encode())
        assert cli.main([*self.call(lab, tmp_path), "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["code"] == "busy", "which a host does say"
        assert lab.server.requests == []

    def test_a_file_that_is_no_product_is_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "product.toml"
        file.write_text("id = 1\n")
        words = ["fleet", "--host", "h", "--product", str(file), "--root", "A" * 43]
        assert cli.main([*words, "--json"]) == 1
        said = json.loads(capsys.readouterr().out)
        assert said["code"] == "document-refused"
        assert str(file) in said["detail"]

    @pytest.mark.sockets
    def test_an_answer_that_is_no_lease_ends_with_1(
        self, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lab.host.answers.append({"token": "x"})
        assert cli.main([*self.call(lab, tmp_path, "--machines", "1"), "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["invalid"] == 1

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["nope"], 2),
            (["kms", "--days", "0"], 2),
            (["kms", "--days", "x"], 2),
            (["kms", "--policy", "/no"], 4),
            ([], 2),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_use_of_story(
        self, capsys: pytest.CaptureFixture[str], words: list[str], code: int
    ) -> None:
        assert cli.main(["story", *words, "--json"]) == code
        assert "code" in json.loads(capsys.readouterr().out)

    def test_a_bad_policy_is_named_by_its_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "product.toml"
        file.write_text('id = "com.example.cad"\nname = "CAD"\nedition = "client"\n[policy]\nretry = "14m"\n')
        assert cli.main(["story", "kms", "--policy", str(file), "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["line"] == 5


def test_a_product_file_of_another_root(lab_product: Product) -> None:
    with pytest.raises(DocumentRefused):
        machines.read_product(Publisher(iat=NOW).product_file(), lab_product.pub)


def test_hand_clock_is_for_laboratories(tmp_path: Path) -> None:
    """The name by which programs are told of it is the one that only laboratories read (PROTOCOL section 9)."""
    assert list(HandClock(tmp_path / "c", NOW).environ) == ["VOLACT_LAB_CLOCK"]
