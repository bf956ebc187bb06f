"""PROTOCOL 7, the computer list: what is written, what is read, each limit at its value and one beyond."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volact import signing
from volact.protocol import ids
from volact.protocol.problems import DocumentRefused, Refusal
from volact.vamt import cil
from world import NOW, Machine, key_signer, new_id, new_key, remaining

if TYPE_CHECKING:
    from collections.abc import Iterator

PUB = "P" * 43
KEY = new_key()
MACHINE = Machine(PUB)
REQUEST = MACHINE.request(KEY)
WRITER = signing.generate()
ROW = "r" * 22


def line(**members: Any) -> bytes:
    return json.dumps(members).encode() + b"\n"


def pieces(data: bytes) -> Iterator[bytes]:
    """As a file's `readline` gives them."""
    for one in data.splitlines(keepends=True):
        for at in range(0, len(one), cil.PIECE):
            yield one[at : at + cil.PIECE]


def a_list(body: bytes = b"", **more: Any) -> bytes:
    """A list as PROTOCOL says it, made without the module."""
    claims = {
        "pub": PUB,
        "lab": True,
        "iat": NOW,
        "jti": new_id(),
        "sub": new_id(),
        "seq": 1,
        "mode": "proxy",
        "rows": body.count(b"\n"),
        "dig": ids.b64u(hashlib.sha256(body).digest()),
        "len": len(body),
        **more,
    }
    return json.dumps(WRITER.bundle("cil", claims)).encode() + b"\n" + body


def refused(call: Any, *words: Any, **more: Any) -> str:
    with pytest.raises(DocumentRefused) as caught:
        call(*words, **more)
    return caught.value.refusal.detail


def test_a_row_is_written_as_the_protocol_says() -> None:
    """Going out {"row", "request": {"token", "jwk"}, "proof"}; nothing else of the bundle."""
    row = cil.question(ROW, {**REQUEST, "host": "secret"})
    assert json.loads(cil.line_of(row)) == {
        "row": ROW,
        "request": {"token": REQUEST["token"], "jwk": REQUEST["jwk"]},
        "proof": REQUEST["proof"],
    }
    assert row.bundle() == REQUEST
    proof = remaining(KEY, PUB)
    row = cil.question(ROW, proof)
    assert json.loads(cil.line_of(row)) == {"row": ROW, **proof}
    assert row.bundle() == proof
    answer = cil.Row(ROW, answer={"token": "t"})
    assert json.loads(cil.line_of(answer)) == {"row": ROW, "answer": {"token": "t"}}


def test_what_is_written_can_be_read() -> None:
    host = new_key("kms-host")
    extend = {**MACHINE.request(host, "extend", ref="d" * 22), "usage": MACHINE.usage("d" * 22)}
    for bundle in (REQUEST, remaining(KEY, PUB), extend, MACHINE.request(KEY, "return", ref="c" * 22)):
        row = cil.question(ROW, bundle, cil.who(name="pc", domain="", macs=["aa"], more="x"))
        assert row.machine == {"name": "pc", "macs": ["aa"]}
        assert cil.read_row(cil.line_of(row)[:-1]) == row
        assert row.bundle() == bundle
        assert cil.read_question(row).claims == cil.open_question(row).claims


def test_a_head_is_that_of_a_writer_of_its_own() -> None:
    tally = cil.Tally()
    tally.add(line(row=ROW))
    claims = tally.claims()
    assert claims == {
        "rows": 1,
        "dig": ids.b64u(hashlib.sha256(line(row=ROW)).digest()),
        "len": len(line(row=ROW)),
    }
    file = a_list(line(row=ROW), **claims)
    found = cil.survey(pieces(file))
    assert (found.damage, found.lines) == ("", 1)
    assert found.head is not None
    assert found.head.kid == WRITER.kid
    bundle = json.loads(file.splitlines()[0])
    assert json.loads(cil.head_line(bundle)) == bundle


@pytest.mark.parametrize(
    ("bundle", "detail"),
    [
        ({}, "three parts|a token is a text"),
        ({"token": REQUEST["token"]}, "jwk"),
        ({"token": REQUEST["token"], "jwk": REQUEST["jwk"]}, "with a key proof"),
        ({**REQUEST, "usage": MACHINE.usage("d" * 22)}, "usage statement"),
        ({"proof": REQUEST["proof"]}, "needs the request"),
        ({"proof": REQUEST["token"]}, "not a key-proof"),
        (MACHINE.request(KEY, asset="pc17"), "says more than a list may carry: asset"),
    ],
)
def test_what_is_no_question(bundle: dict[str, Any], detail: str) -> None:
    import re

    assert re.search(detail, refused(cil.question, ROW, bundle))


def test_a_request_is_of_the_key_that_comes_with_it() -> None:
    """All but the signature is seen to when a whole list is taken in."""
    other = Machine(PUB).request(KEY)
    row = cil.Row(ROW, {"token": REQUEST["token"], "jwk": other["jwk"]}, REQUEST["proof"])
    assert "another key" in refused(cil.read_question, row)
    assert "another key" in refused(cil.open_question, row)
    cil.read_question(row._replace(request={"token": REQUEST["token"], "jwk": REQUEST["jwk"]}))


@pytest.mark.parametrize("change", ["ref", "iss", "pub", "more"])
def test_a_usage_statement_is_that_of_its_request(change: str) -> None:
    host_key, ref = new_key("kms-host"), "d" * 22
    request = MACHINE.request(host_key, "extend", ref=ref)
    other = {"ref": MACHINE, "iss": Machine(PUB), "pub": Machine("Q" * 43), "more": MACHINE}[change]
    if change == "pub":
        other.signer = MACHINE.signer
    usage = other.usage("e" * 22 if change == "ref" else ref)
    if change == "more":
        from world import claims_of

        usage = MACHINE.signer.bundle("usage", {**claims_of(str(usage["token"])), "site": "HQ"})
    said = refused(cil.question, ROW, {**request, "usage": usage})
    assert said.startswith("usage: says more" if change == "more" else "usage: of another host")


ANSWER = {"answer": {"token": "x"}}


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ({}, "row is not the id"),
        ({"row": "r" * 21, **ANSWER}, "row is not the id"),
        ({"row": "r" * 23, **ANSWER}, "row is not the id"),
        ({"row": 1, **ANSWER}, "row is not the id"),
        ({"row": ROW}, "a question, an answer or a problem"),
        ({"row": ROW, **ANSWER, "problem": {}}, "a question, an answer or a problem"),
        ({"row": ROW, **ANSWER, "proof": "x"}, "a question, an answer or a problem"),
        ({"row": ROW, "answer": []}, "answer is no object"),
        ({"row": ROW, "problem": None}, "problem is no object"),
        ({"row": ROW, **ANSWER, "machine": "pc"}, "machine is no object"),
        ({"row": ROW, "request": {"token": "x"}}, "exactly token and jwk"),
        ({"row": ROW, "request": {"token": "x", "jwk": {}, "more": 1}}, "exactly token and jwk"),
        ({"row": ROW, "proof": 1}, "proof is no text"),
        ({"row": ROW, "proof": "x", "usage": {"token": "x", "jwk": {}}}, "comes with a request"),
    ],
)
def test_what_is_no_row(row: dict[str, Any], detail: str) -> None:
    assert detail in refused(cil.read_row, json.dumps(row).encode())


def test_unknown_members_are_left_out() -> None:
    assert cil.read_row(json.dumps({"row": ROW, **ANSWER, "later": [1]}).encode()) == cil.Row(
        ROW, answer=ANSWER["answer"]
    )


def test_the_longest_row() -> None:
    """PROTOCOL 7: rows of 16 KiB: 16,384 bytes are read and written, 16,385 are not."""
    empty = len(cil.line_of(cil.Row(ROW, answer={"token": ""}))) - 1
    for size, good in ((16_383, True), (16_384, True), (16_385, False)):
        row = cil.Row(ROW, answer={"token": "x" * (size - empty)})
        data = line(row=ROW, answer=row.answer).replace(b", ", b",").replace(b": ", b":")
        assert len(data) == size + 1
        (found,) = cil.lines(pieces(b"head\n" + data))
        if good:
            assert cil.line_of(row) == data
            assert found == cil.Line(2, row)
        else:
            assert "at most 16384 bytes" in refused(cil.line_of, row)
            assert isinstance(found.row, Refusal)
            assert found.row.code == "row-malformed"


def test_a_line_of_any_length_is_one_line() -> None:
    long = b"x" * (3 * cil.PIECE + 5) + b"\n"
    good = line(row=ROW, **ANSWER)
    found = list(cil.lines(pieces(long + long + good + long + good)))
    assert [one.number for one in found] == [2, 3, 4, 5]
    assert [one.row.code if isinstance(one.row, Refusal) else "" for one in found] == [
        "row-malformed",
        "",
        "row-malformed",
        "row-repeated",
    ]
    assert cil.survey(pieces(a_list() + long + good)).lines == 2


def test_the_last_row_cut_off() -> None:
    good = line(row=ROW, **ANSWER)
    (found,) = cil.lines(pieces(b"head\n" + good[:-1]))
    assert found.row == Refusal("row-malformed", "It is cut off.")
    assert list(cil.lines(pieces(b"head"))) == []
    assert list(cil.lines(iter([]))) == []


def test_the_most_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """PROTOCOL 7: 512 MiB and 200,000 rows; each at its value and one beyond, with smaller numbers for the test's sake."""
    assert (cil.MAX_ROWS, cil.MAX_FILE, cil.MAX_LINE) == (200_000, 512 * 1024 * 1024, 16 * 1024)
    monkeypatch.setattr(cil, "MAX_ROWS", 3)
    row = b"{}\n"
    for count, good in ((2, True), (3, True), (4, False)):
        tally = cil.Tally()
        if good:
            for _ in range(count):
                tally.add(row)
            assert cil.survey(pieces(a_list(row * count))).damage == ""
        else:
            for _ in range(3):
                tally.add(row)
            assert "at most 3 rows" in refused(tally.add, row)
            assert "at most 3 rows" in refused(cil.survey, pieces(a_list(row * count)))
            assert "at most 3 rows" in refused(cil.survey, pieces(a_list(rows=4)))
    monkeypatch.setattr(cil, "MAX_FILE", 9 + cil.PIECE)
    tally = cil.Tally()
    for _ in range(3):
        tally.add(row)
    monkeypatch.setattr(cil, "MAX_FILE", 8 + cil.PIECE)
    monkeypatch.setattr(cil, "MAX_ROWS", 9)
    tally = cil.Tally()
    tally.add(row)
    tally.add(row)
    assert "take fewer" in refused(tally.add, row)
    monkeypatch.setattr(cil, "MAX_FILE", 9)
    assert cil.survey(pieces(a_list(row * 3))).damage == ""
    assert "bytes" in refused(cil.survey, pieces(a_list(row * 3 + b"\n")))
    assert "bytes" in refused(cil.survey, pieces(a_list(len=10)))


def test_damage() -> None:
    row = line(row=ROW, **ANSWER)
    assert "was written with" in cil.survey(pieces(a_list(row) + row)).damage
    assert "was written with" in cil.survey(pieces(a_list(row + row)[: -len(row)])).damage
    assert "was written with" in cil.survey(pieces(a_list(row, len=len(row) + 1))).damage
    assert "was written with" in cil.survey(pieces(a_list(row[:-1], rows=1))).damage
    assert "not the list that was signed" in cil.survey(pieces(a_list(row, dig="A" * 43))).damage
    found = cil.survey(pieces(b"x\n" + row))
    assert found.head is None
    assert "first line does not hold" in found.damage
    for data in (b"", b"x", b"x\n", b"x\ny\n", b"x" * 99_999):
        assert "no computer list" in refused(cil.survey, pieces(data))


def test_an_answer_answers_its_question() -> None:
    """What is compared, claim by claim."""
    from volact.protocol.documents import Document

    def document(name: str, kid: str = "k", **claims: Any) -> Document:
        return Document(name, kid, {"jti": "j", **claims}, "")

    activate = cil.open_question(cil.question(ROW, REQUEST))
    wanted = {"sub": MACHINE.cmid, "prd": activate["prd"], "req": activate.jti, "key": activate["key"]}
    good = document("confirmation", **wanted, fp=activate["fp"])
    cil.check_answer(good, activate)
    for name in (*wanted, "fp"):
        wrong = document("confirmation", **{**good.claims, name: "other"})
        assert name in refused(cil.check_answer, wrong, activate)
    assert "not what was asked" in refused(cil.check_answer, document("receipt", **wanted), activate)

    host = cil.open_question(cil.question(ROW, MACHINE.request(new_key("kms-host"), "host")))
    cil.check_answer(document("delegation", sub=MACHINE.cmid, prd=["a", host["prd"]]), host)
    for sub, prd in ((MACHINE.cmid, ["a"]), ("other", [host["prd"]])):
        assert "another host or product" in refused(
            cil.check_answer, document("delegation", sub=sub, prd=prd), host
        )

    count = cil.open_question(cil.question(ROW, remaining(KEY, PUB)))
    assert (cil.operation(count), cil.key_of(count)) == ("remaining", key_signer(KEY, PUB).kid)
    said = {"sub": count.kid, "prd": count["prd"], "req": count.jti}
    cil.check_answer(document("statement", **said), count)
    for name in said:
        assert "another key or question" in refused(
            cil.check_answer, document("statement", **{**said, name: "other"}), count
        )


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 60))
def test_any_bytes(new: bytes, at: int, length: int) -> None:
    """A line is a row or a reason, and there are as many as the survey says."""
    file = a_list(line(row=ROW, **ANSWER) + line(row="s" * 22, problem={"code": "x"}))
    at += len(file.splitlines(keepends=True)[0]) - 100
    data = file[:at] + new + file[at + length :]
    found = list(cil.lines(pieces(data)))
    assert all(isinstance(one.row, cil.Row) or one.row.code.startswith("row-") for one in found)
    try:
        survey = cil.survey(pieces(data))
    except DocumentRefused:
        return
    assert survey.lines == len(found)
    assert survey.damage or data.partition(b"\n")[2] == file.partition(b"\n")[2]
