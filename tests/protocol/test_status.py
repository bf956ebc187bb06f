"""The body of a status list: PROTOCOL section 7. Broken bodies are in tests/vectors/status.json."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectors import forge
from vectors.cases import CAD_PUBLISHER as P
from volact.protocol import documents, status, trust
from volact.protocol.documents import Document
from volact.protocol.problems import DocumentRefused
from volact.protocol.status import Entry

letters = st.text("ABab01-_", min_size=43, max_size=43)
since = st.integers(0, 2**53 - 1)
entries = st.lists(
    st.builds(
        Entry,
        st.just("act"),
        st.text("AB-_", min_size=22, max_size=22),
        st.sampled_from(["all", "returned"]),
        since,
    )
    | st.builds(
        Entry, st.sampled_from(["host", "key", "machine"]), letters, st.sampled_from(["all", "new"]), since
    ),
    unique_by=lambda one: (one.kind, one.id),
    max_size=8,
)


@given(entries)
def test_a_body_is_read_as_it_was_written(given_entries: list[Entry]) -> None:
    """PROTOCOL 7: lines `kind id mode since` (LF, one space, sorted by bytes); no entries, no bytes."""
    lines = status.lines(given_entries)
    assert lines == sorted(f"{e.kind} {e.id} {e.mode} {e.since}\n".encode() for e in given_entries)
    found = list(status.read(lines))
    assert sorted(found) == sorted(given_entries)
    assert (b"".join(lines) == b"") is (given_entries == [])


@pytest.mark.parametrize("kind", ["act", "host", "key", "machine", "user"])
@pytest.mark.parametrize("mode", ["all", "new", "returned", "old"])
def test_kinds_and_modes(kind: str, mode: str) -> None:
    """PROTOCOL 7: returned only for act; act has all or returned; host, key, machine new or all."""
    name = "A" * (22 if kind == "act" else 43)
    allowed = {
        "act": {"all", "returned"},
        "host": {"all", "new"},
        "key": {"all", "new"},
        "machine": {"all", "new"},
    }
    try:
        taken = list(status.read([f"{kind} {name} {mode} 1\n".encode()])) == [Entry(kind, name, mode, 1)]
    except DocumentRefused:
        taken = False
    assert taken is (mode in allowed.get(kind, set()))


def head(body: bytes, length: int | None = None) -> Document:
    dig = forge.b64(hashlib.sha256(body).digest())
    text = P.status({"dig": dig, "len": len(body) if length is None else length})
    claims = forge.claims_of(text)
    return documents.read("status", claims["iss"], forge.compact(claims), text)


@given(st.binary(max_size=60), st.integers(1, 7))
def test_a_body_in_any_pieces_is_compared_with_its_head(body: bytes, size: int) -> None:
    """PROTOCOL 7: a head (version, digest, length); the body is read as a stream."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    status.check_body(head(body), pieces)
    with pytest.raises(DocumentRefused):
        status.check_body(head(body), [*pieces, b"x"])
    with pytest.raises(DocumentRefused):
        status.check_body(head(body + b"x"), pieces)


def test_a_stream_is_read_no_further_than_the_head_says() -> None:
    """A body without end is not read to its end."""

    def endless() -> object:
        for read in range(100):
            assert read < 3
            yield b"x" * 10

    with pytest.raises(DocumentRefused):
        status.check_body(head(b"x" * 15), endless())  # type: ignore[arg-type]  # a generator of bytes


@pytest.mark.parametrize(("length", "good"), [(2**26 - 1, True), (2**26, True), (2**26 + 1, False)])
def test_the_longest_body(length: int, good: bool) -> None:
    """PROTOCOL 7: at most 64 MiB."""
    with pytest.raises(DocumentRefused) as caught:
        status.check_body(head(b"", length), [])
    assert ("longer than" in str(caught.value)) is not good


def test_lists_are_ordered_by_the_pair_of_delegation_and_version() -> None:
    """PROTOCOL 7: the pair [iat of the status key's delegation, ver]."""
    roots = trust.open_roots(P.first(), P.pub)
    granted = trust.verify(P.bundle("status"), "status", roots)
    assert status.pair(granted) == (forge.START, 7)
    newer = P.bundle("status", {"ver": 1}) | {"chain": [P.status_delegation({"iat": forge.START + 1})]}
    assert status.pair(trust.verify(newer, "status", roots)) > status.pair(granted)


@given(entries, st.lists(st.tuples(st.sampled_from(["host", "machine"]), letters), max_size=4))
def test_what_is_looked_for_by_halves_is_what_reading_finds(
    given_entries: list[Entry], others: list[tuple[str, str]]
) -> None:
    body = b"".join(status.lines(given_entries))
    named = {(one.kind, one.id): one.mode for one in given_entries}
    for kind, identifier in [*named, *others]:
        assert status.find(body, kind, identifier) == named.get((kind, identifier), "")
