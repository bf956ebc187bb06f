"""Issue 5, "File faults": whatever became of a file, nothing wrong is applied, and each row is reported (P3, T30)."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vamt.proxy.trips import Side, Trip, rows_of
from vamt.site import ADMINISTRATOR, OPERATOR, VIEWER, Site
from volact import signing
from volact.protocol.problems import DocumentRefused, Refused
from volact.vamt import cil, schema
from volact.vamt.intake import Intake
from volact.vamt.selecting import Selection
from world import Machine, claims_of, new_id

CODES = {"row-malformed", "row-repeated", "list-damaged", "list-foreign", "list-outdated", "document-refused"}


def listed(side: Side, rows: list[bytes], writer: signing.Signer, /, **more: Any) -> bytes:
    """A list that somebody wrote: any rows, rightly signed."""
    tally = cil.Tally()
    for row in rows:
        tally.add(row)
    claims = {
        "pub": side.pub,
        "lab": True,
        "iat": 1,
        "jti": new_id(),
        "sub": new_id(),
        "seq": 1,
        "mode": "proxy",
        **tally.claims(),
        **more,
    }
    return cil.head_line(writer.bundle("cil", claims)) + b"".join(rows)


def line(**members: Any) -> bytes:
    return json.dumps(members).encode() + b"\n"


def answered_states(trip: Trip, lid: str) -> list[str]:
    _, rows = trip.inside.proxy.receipt(VIEWER, lid)
    return [item.state for item, _ in rows]


def one_answer(trip: Trip, machines: int = 1) -> tuple[str, bytes, list[Any]]:
    """A list that went out, the file that comes back, and the confirmations in it."""
    key = trip.authority.key(activations=machines)
    trip.estate(machines)
    done = trip.export(key)
    trip.outside.take(trip.inside.file)
    file = trip.answer(done.written.lid)
    return done.written.lid, file, [row["answer"]["token"] for row in rows_of(file)]


def nothing_wrong(trip: Trip, lid: str, granted: list[Any]) -> None:
    """What rows have as answers is what the authority granted, nothing else."""
    _, rows = trip.inside.proxy.receipt(VIEWER, lid)
    for item, _ in rows:
        if item.state == "answered":
            assert item.answer is not None
            assert item.answer["token"] in granted
        else:
            assert (item.state, item.answer) == ("open", None)


def forget(trip: Trip) -> None:
    """Back to the moment before anything came back."""
    with trip.inside.site.store.writing() as tx:
        tx.execute(schema.confirmation.delete())
        tx.execute(schema.list_row.update().values(state="open", code="", answer=None))
        tx.execute(schema.computer_list.delete().where(schema.computer_list.c.direction != "out"))


def test_any_byte_of_an_answer_flipped(trip: Trip) -> None:
    """Every 101st byte here (`make slow` has all): the good confirmation or none, never another, never an error."""
    lid, file, granted = one_answer(trip)
    _flip(trip, lid, file, granted, range(0, len(file), 101))


@pytest.mark.slow
def test_every_byte_of_an_answer_flipped(trip: Trip) -> None:
    lid, file, granted = one_answer(trip)
    _flip(trip, lid, file, granted, range(len(file)))


def _flip(trip: Trip, lid: str, file: bytes, granted: list[Any], places: range) -> None:
    for at in places:
        damaged = bytearray(file)
        damaged[at] ^= 1 + at % 255
        try:
            taken = trip.inside.take(bytes(damaged))
        except (DocumentRefused, Refused):
            assert answered_states(trip, lid) == ["open"]
            continue
        assert taken.damage or taken.outcomes
        assert {one.refusal.code for one in taken.outcomes if one.refusal} <= CODES, at
        nothing_wrong(trip, lid, granted)
        forget(trip)


def test_any_byte_of_a_question_flipped(trip: Trip) -> None:
    """Of a damaged list no question is asked, and the file that is whole is taken afterwards."""
    key = trip.authority.key()
    trip.estate(2)
    trip.export(key)
    file = trip.inside.file
    for at in range(0, len(file), 211):
        damaged = bytearray(file)
        damaged[at] ^= 1 + at % 255
        try:
            taken = trip.outside.take(bytes(damaged))
        except (DocumentRefused, Refused):
            continue
        assert {one.state for one in taken.outcomes} <= {"dropped"}, at
        assert taken.damage
    assert trip.outside.proxy.lists(VIEWER, 10) == []
    assert trip.outside.states(trip.outside.take(file)) == ["new", "new"]


def test_cut_at_each_4_kib(trip: Trip) -> None:
    """F31: whole confirmations of a list that is cut off count; the row that is cut does not."""
    lid, file, granted = one_answer(trip, 6)
    rows = file.splitlines(keepends=True)
    for size in range(4096, len(file), 4096):
        taken = trip.inside.take(file[:size])
        whole = sum(len(b"".join(rows[: number + 2])) <= size for number in range(6))
        states = trip.inside.states(taken)
        assert states.count("answered") + states.count("known") == whole
        assert taken.damage
        assert states.count("dropped row-malformed") == (file[size - 1 : size] != b"\n")
        nothing_wrong(trip, lid, granted)
    taken = trip.inside.take(file)
    assert (taken.damage, answered_states(trip, lid)) == ("", ["answered"] * 6)


@pytest.mark.parametrize("size", [0, 1, 100, 700])
def test_cut_within_its_first_line(trip: Trip, size: int) -> None:
    _, file, _ = one_answer(trip)
    with pytest.raises(DocumentRefused, match="no computer list"):
        trip.inside.take(file[:size])


def test_part_of_a_list_without_its_head(trip: Trip) -> None:
    """Somebody cut out some rows: their confirmations are good ones all the same."""
    lid, file, granted = one_answer(trip, 3)
    part = b"".join(file.splitlines(keepends=True)[2:])
    taken = trip.inside.take(part)
    assert (taken.lid, taken.writer) == ("", None)
    assert "first line" in taken.damage
    assert trip.inside.states(taken) == ["answered"]  # the first of them stood where the head should
    nothing_wrong(trip, lid, granted)


def test_problems_of_a_damaged_list_are_dropped(trip: Trip) -> None:
    key = trip.authority.key(activations=1)
    trip.estate(3)
    done = trip.export(key)
    trip.outside.take(trip.inside.file)
    file = trip.answer(done.written.lid)
    taken = trip.inside.take(file + b"x\n")
    assert sorted(trip.inside.states(taken)) == [
        "answered",
        "dropped list-damaged",
        "dropped list-damaged",
        "dropped row-malformed",
        "open",
        "open",
    ]
    taken = trip.inside.take(file)
    assert sorted(trip.inside.states(taken)) == ["known", *["refused no-activations-left"] * 2]


def test_another_sites_list(trip: Trip) -> None:
    """An answer to somebody else's question fits nothing here; so does a list that this VAMT wrote itself."""
    lid, file, _ = one_answer(trip)
    trip.pending.clear()
    other = trip.export(trip.authority.key(activations=9)).written.lid
    with trip.inside.site.store.writing() as tx:
        row, whole = schema.list_row, schema.computer_list
        tx.execute(
            row.delete().where(
                row.c.list.in_(whole.select().with_only_columns(whole.c.id).where(whole.c.lid == lid))
            )
        )
    taken = trip.inside.take(file)
    assert trip.inside.states(taken) == ["dropped list-foreign"]
    assert answered_states(trip, other) == ["open"]
    with pytest.raises(Refused) as caught:
        trip.inside.take(trip.inside.file)
    assert caught.value.refusal.code == "list-foreign"


def test_a_problem_does_not_undo_an_answer_that_came_later(trip: Trip) -> None:
    """Older than the last: what was answered since stays answered."""
    key = trip.authority.key(activations=1)
    trip.estate(2)
    done = trip.export(key)
    trip.outside.take(trip.inside.file)
    first = trip.answer(done.written.lid)
    trip.authority.office.raise_key(key.label, 2)
    second = trip.answer(done.written.lid)
    trip.inside.take(second)
    taken = trip.inside.take(first)
    assert (taken.older, trip.inside.states(taken)) == (True, ["known", "known"])
    assert answered_states(trip, done.written.lid) == ["answered"] * 2


def test_a_question_that_a_newer_list_replaced(trip: Trip) -> None:
    """Older than the last, outside: the machine asks otherwise by now. What the newer list does not have is taken."""
    key = trip.authority.key()
    trip.estate(2)
    trip.export(key)
    old = trip.inside.file
    del trip.pending["pc0"]
    trip.export(key, trip_selection("pc0"))
    trip.outside.take(trip.inside.file)
    taken = trip.outside.take(old)
    assert (taken.older, trip.outside.states(taken)) == (True, ["dropped list-outdated", "new"])


def trip_selection(*names: str) -> Selection:
    return Selection(names)


def test_only_a_later_list_replaces_a_question(trip: Trip) -> None:
    """Of three lists the second comes last: what the first asked does not count against it."""
    key = trip.authority.key()
    trip.estate(2)
    files = []
    for name in ("pc0", "pc0", "pc1"):
        trip.pending.pop(name, None)
        trip.export(key, trip_selection(name))
        files.append(trip.inside.file)
    trip.outside.take(files[0])
    trip.outside.take(files[2])
    taken = trip.outside.take(files[1])
    assert (taken.older, trip.outside.states(taken)) == (True, ["new"])


@pytest.mark.parametrize(
    "change", [{"fp": {"uuid": "A" * 11}}, {"prd": "com.example.other"}, {"sub": "A" * 43}]
)
def test_a_confirmation_that_does_not_answer_its_question(trip: Trip, change: dict[str, Any]) -> None:
    """Signed by the publisher, and naming the question: what else it says must be the question's, too."""
    lid, file, _ = one_answer(trip)
    (row,) = rows_of(file)
    claims = {**claims_of(row["answer"]["token"]), **change}
    row["answer"]["token"] = trip.authority.keyring.issuer.sign("confirmation", claims)
    taken = trip.inside.take(listed(trip.inside, [line(**row)], signing.generate(), ref=lid))
    assert trip.inside.states(taken) == ["dropped document-refused", "open"]


def test_writers(trip: Trip) -> None:
    """P3: an unknown writer is shown by its fingerprint, and can be pinned."""
    key = trip.authority.key()
    trip.estate(1)
    trip.export(key)
    taken = trip.outside.take(trip.inside.file)
    fingerprint = trip.inside.site.signer.kid
    assert taken.writer is not None
    assert (taken.writer.fp, taken.writer.trusted) == (fingerprint, False)
    trip.outside.proxy.trust(ADMINISTRATOR, fingerprint, "Inside")
    taken = trip.outside.take(trip.inside.file)
    assert taken.writer is not None
    assert (taken.writer.name, taken.writer.trusted) == ("Inside", True)
    assert [one.fp for one in trip.outside.proxy.writers(VIEWER)] == [fingerprint]


def test_a_publisher_that_is_not_known(trip: Trip, tmp_path: Any, databases: Any) -> None:
    key = trip.authority.key()
    trip.estate(1)
    trip.export(key)
    stranger = Site(databases.sqlite(tmp_path / "stranger.db"))
    with pytest.raises(Refused) as caught:
        Intake(stranger.vamt.office, stranger.signer.kid).import_(OPERATOR, io.BytesIO(trip.inside.file))
    stranger.close()
    assert caught.value.refusal.code == "publisher-unknown"


def test_rows_of_another_publisher(trip: Trip) -> None:
    """One publisher's rows: another's are refused row by row; so are answers among questions."""
    key = trip.authority.key()
    machine, other = Machine(trip.pub), Machine("Q" * 43)
    good, foreign = machine.request(key), other.request(key)
    rows = [
        line(row=new_id(), request={n: good[n] for n in ("token", "jwk")}, proof=good["proof"]),
        line(row=new_id(), request={n: foreign[n] for n in ("token", "jwk")}, proof=foreign["proof"]),
        line(row=new_id(), request={n: good[n] for n in ("token", "jwk")}),
        line(row=new_id(), problem={"code": "internal", "title": "x"}),
        line(row="x"),
    ]
    taken = trip.outside.take(listed(trip.outside, rows, signing.generate()))
    assert sorted(trip.outside.states(taken)) == [
        "dropped document-refused",
        "dropped document-refused",
        "dropped row-malformed",
        "dropped row-malformed",
        "new",
    ]


def test_a_request_that_its_machine_did_not_sign(trip: Trip) -> None:
    """A hostile writer makes up a request: it is not sent on, and its row says so; the others are asked."""
    key = trip.authority.key(activations=5)
    good, false = (Machine(trip.pub).request(key) for _ in range(2))
    head, _, signature = str(false["token"]).rpartition(".")
    false["token"] = f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    rows = [
        line(row=new_id(), request={n: one[n] for n in ("token", "jwk")}, proof=one["proof"])
        for one in (false, good)
    ]
    taken = trip.outside.take(listed(trip.outside, rows, signing.generate()))
    done = trip.acquire(taken.lid)
    assert [(one.state, one.refusal and one.refusal.code) for one in done.outcomes] == [
        ("refused", "document-refused"),
        ("answered", None),
    ]
    assert trip.wire.batches == [1]
    stranger = {**good, "jwk": false["jwk"]}
    rows = [line(row=new_id(), request={n: stranger[n] for n in ("token", "jwk")}, proof=good["proof"])]
    taken = trip.outside.take(listed(trip.outside, rows, signing.generate()))
    assert trip.outside.states(taken) == ["dropped document-refused"]


def test_a_hostile_writer_repeats_a_row(trip: Trip) -> None:
    key = trip.authority.key()
    machines = [Machine(trip.pub).request(key) for _ in range(2)]
    row = new_id()
    rows = [
        line(row=row, request={n: one[n] for n in ("token", "jwk")}, proof=one["proof"]) for one in machines
    ]
    taken = trip.outside.take(listed(trip.outside, rows, signing.generate()))
    assert sorted(trip.outside.states(taken)) == ["dropped row-repeated", "new"]


def test_an_answer_for_another_row(trip: Trip) -> None:
    """A confirmation goes where the publisher's own words say, wherever a writer puts it."""
    lid, file, granted = one_answer(trip, 2)
    head, *rows = file.splitlines(keepends=True)
    one, two = (json.loads(row) for row in rows)
    one["answer"], two["answer"] = two["answer"], one["answer"]
    swapped = listed(trip.inside, [line(**one), line(**two)], signing.generate(), ref=lid)
    assert head
    taken = trip.inside.take(swapped)
    assert trip.inside.states(taken) == ["answered", "answered"]
    _, found = trip.inside.proxy.receipt(VIEWER, lid)
    for item, _ in found:
        assert item.answer is not None
        assert claims_of(item.answer["token"])["req"] == item.jti
    assert granted


def test_the_file_of_200001_rows(trip: Trip) -> None:
    """PROTOCOL 7: at most 200,000 rows; one more and none of them is looked at."""
    row = b'{"row":"x"}\n'
    writer = signing.generate()
    head = listed(trip.outside, [], writer, rows=200_001, len=len(row) * 200_001)
    with pytest.raises(DocumentRefused, match="at most 200000 rows"):
        trip.outside.take(head + row * 200_001)
    with pytest.raises(DocumentRefused, match="at most 200000 rows"):
        trip.outside.take(listed(trip.outside, [], writer) + row * 200_001)
    with pytest.raises(DocumentRefused, match="at most 200000 rows"):
        trip.outside.take(head)
    assert trip.outside.proxy.lists(VIEWER, 10) == []


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"PK\x03\x04" * 5000, b"{}\n{}\n", b"[" * 100_000, b"\xff\xfe\n" * 9]
)
def test_what_is_no_list(trip: Trip, data: bytes) -> None:
    with pytest.raises(DocumentRefused, match="no computer list"):
        trip.outside.take(data)


def test_a_lab_list_and_another(trip: Trip) -> None:
    with pytest.raises(DocumentRefused, match="laboratory"):
        trip.outside.take(listed(trip.outside, [], signing.generate(), lab=False))


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory, databases: Any, authorities: Any) -> Any:
    folder = tmp_path_factory.mktemp("shared")
    made = Trip(
        authorities.sqlite(folder / "authority.db"), lambda name: databases.sqlite(folder / f"{name}.db")
    )
    yield made, one_answer(made, 2)
    made.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 8000), st.integers(0, 300), st.binary(max_size=40)), min_size=1, max_size=4
    )
)
def test_any_mutation(_shared: Any, edits: list[tuple[int, int, bytes]]) -> None:
    """Cut, put in, put over: a reason for each row, and no confirmation that was not granted."""
    trip, (lid, file, granted) = _shared
    for at, length, new in edits:
        file = file[:at] + new + file[at + length :]
    try:
        taken = trip.inside.take(file)
    except (DocumentRefused, Refused):
        pass
    else:
        assert {one.refusal.code for one in taken.outcomes if one.refusal} <= CODES
    nothing_wrong(trip, lid, granted)
    forget(trip)
