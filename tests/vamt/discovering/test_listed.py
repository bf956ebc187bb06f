"""Machines from a CSV file (V1): what is read, what is left out, and where it is broken, by line and column."""

import csv
import io
import itertools
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volact.protocol.problems import Refusal, Refused
from volact.vamt.discovering import listed
from volact.vamt.discovering.names import Found, Skipped
from volact.vamt.inventory import Sighting


def read(text: str | bytes, group: str = "") -> list[Found]:
    data = text.encode() if isinstance(text, str) else text
    return list(listed.discover(io.BytesIO(data), group))


def refusal(text: str | bytes) -> Refusal:
    with pytest.raises(Refused) as caught:
        read(text)
    assert caught.value.refusal.code == "list-malformed"
    return caught.value.refusal


WHOLE = Sighting(
    "csv",
    "web1",
    "corp.example",
    ("192.0.2.1", "2001:db8::1"),
    2222,
    "ssh",
    "linux",
    ("001122aabbcc",),
    group="SecureNetwork",
)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_row_with_everything(separator: str, end: str, mark: str) -> None:
    head = "Name,domain, ADDRESS ,port,transport,group,mac,platform".replace(",", separator)
    row = "WEB1,Corp.Example.,192.0.2.1 2001:DB8::1,2222,SSH,SecureNetwork,00:11:22:aa:BB:cc,Linux"
    assert read(f"{mark}{head}{end}{row.replace(',', separator)}{end}") == [WHOLE]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("name\nweb1", [Sighting("csv", "web1")]),
        ("name\n\nweb1\n\n", [Sighting("csv", "web1")]),
        ("name,address\n,\nweb1,\n", [Sighting("csv", "web1")]),
        ("name\nweb1.corp.example\n", [Sighting("csv", "web1", "corp.example")]),
        ("domain,name\nCORP.example,web1.corp.example\n", [Sighting("csv", "web1", "corp.example")]),
        ("address\n::ffff:192.0.2.1\n", [Sighting("csv", addresses=("192.0.2.1",))]),
        ("address\n192.0.2.1 192.0.2.1\n", [Sighting("csv", addresses=("192.0.2.1",))]),
        ("address,port\n192.0.2.1,65535\n", [Sighting("csv", addresses=("192.0.2.1",), port=65535)]),
        ("address,port\n192.0.2.1,1\n", [Sighting("csv", addresses=("192.0.2.1",), port=1)]),
        ('name,group\nweb1,"a, ""b"""\n', [Sighting("csv", "web1", group='a, "b"')]),
        ('name,group\nweb1,5" disk\n', [Sighting("csv", "web1", group='5" disk')]),
        ("name,platform\nweb1,Windows 11\n", [Sighting("csv", "web1", platform="windows")]),
        ("name,platform\nweb1,Plan 9\n", [Sighting("csv", "web1", platform="plan 9")]),
        ('"name";"address"\nweb1;192.0.2.1\n', [Sighting("csv", "web1", addresses=("192.0.2.1",))]),
    ],
)
def test_what_a_file_means(text: str, right: list[Sighting]) -> None:
    assert read(text) == right


def test_the_given_group_is_for_rows_that_name_none() -> None:
    found = read("name,group\nweb1,Web\nweb2,\n", "Others")
    assert [one.group for one in found if isinstance(one, Sighting)] == ["Web", "Others"]


@pytest.mark.parametrize(
    ("row", "column", "said"),
    [
        ("a b,,,,,,,", 1, "'a b' is no name of a host"),
        ("web1,-,,,,,,", 6, "'-' is no domain"),
        (",corp.example,,,,,,", 2, "there is a domain, but no name"),
        ("web1.a.example,b.example,,,,,,", 16, "the name is in a.example"),
        ("web1,,192.0.2.256,,,,,", 7, "'192.0.2.256' is no address"),
        ("web1,,192.0.2.1 x,,,,,", 7, "'x' is no address"),
        ("web1,,,0,,,,", 8, "'0' is no port"),
        ("web1,,,65536,,,,", 8, "'65536' is no port"),
        ("web1,,,-1,,,,", 8, "'-1' is no port"),
        ("web1,,,²,,,,", 8, "'²' is no port"),
        ("web1,,,,telnet,,,", 9, "'telnet' is none of ssh, winrm, local"),
        ("web1,,192.0.2.1,,local,,,", 18, "local is the machine that VAMT runs on"),
        ("web1,,127.0.0.1 192.0.2.1,,Local,,,", 28, "local is the machine that VAMT runs on"),
        ('web1,,,,,"a\x07b",,', 10, "'a?b' is no name of a group"),
        (f"web1,,,,,{'g' * 65},,", 10, "is no name of a group"),
        ("web1,,,,,,00:11,", 11, "'00:11' is no mac"),
        ("web1,,,,,,,a\x1b[31m", 12, "is no name of a system"),
        (",,,22,,,,", 1, "neither a name nor an address"),
        ("web1,,,,,,", 11, "the row has 7 cells, and there are 8 columns"),
        ("web1,,,,,,,,", 13, "the row has 9 cells, and there are 8 columns"),
        ('"a,b",,"x,y",,,,,,', 19, "the row has 9 cells"),
    ],
)
def test_a_wrong_row_is_left_out_and_the_others_are_read(row: str, column: int, said: str) -> None:
    head = ",".join(listed.COLUMNS)
    left_out, other = read(f"{head}\n{row}\nweb9,,,,,,,\n")
    assert isinstance(left_out, Skipped)
    assert left_out.where == f"line 2, column {column}"
    assert said in left_out.reason
    assert left_out.reason.isprintable()
    assert other == Sighting("csv", "web9")


def test_a_row_over_several_lines_is_counted_by_lines() -> None:
    found = read('name,group,port\nweb1,"a\nb",x\nweb2,,y\n')
    assert [one.where for one in found if isinstance(one, Skipped)] == [
        "line 3, column 4",
        "line 4, column 7",
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("", 1, 1, "names no columns; they are name, domain"),
        ("\nname\n", 1, 1, "names no columns"),
        ("name,adress\n", 1, 6, "no column 'adress'; address is meant?"),
        ("name;domian\n", 1, 6, "no column 'domian'; domain is meant?"),
        ("name,zzzz\n", 1, 6, "no column 'zzzz'; they are name, domain"),
        ("name,\n", 1, 6, "no column ''"),
        ("name,Name\n", 1, 6, "column name stands there twice"),
        ("port,group\n", 1, 1, "neither a column name nor a column address"),
        ('name,group\nweb1,"x\n', 2, 6, "a quote is opened there and never closed"),
        ('name,group\nweb1,"x"y\n', 2, 9, "after a closing quote stands something else"),
        ('name,group\nweb1,"x""\nweb2,"y"z\n', 3, 7, "after a closing quote stands something else"),
        (b"name\nweb1\nm\xfcller\n", 3, 2, "not UTF-8"),
        ("\ufeffname\n".encode() + b"\xff\n", 2, 1, "not UTF-8"),
        ("name\nwe\0b\n", 2, 3, "NUL"),
        ("name\n" + "x" * 65_537, 2, 65_537, "longer than 65,536 bytes"),
        ("name\rweb1\rweb2\n", 1, 1, "no column"),
        ("name\nweb1\rweb2\n", 2, 1, "new-line character"),
        ('name\n"' + "x\n" * 70_000, 2, 1, "not closed for 131,072 characters"),
    ],
)
def test_a_broken_file_is_refused_with_line_and_column(
    text: str | bytes, line: int, column: int, said: str
) -> None:
    found = refusal(text)
    assert found.extra == (("line", line), ("column", column))
    assert found.detail.startswith(f"Line {line}, column {column}: ")
    assert said in found.detail


def test_the_longest_line_is_read() -> None:
    (found,) = read("name,group\n" + "w" * 65_526 + ",12345678\n\n")
    assert isinstance(found, Skipped), "its name is too long, but its line is not"


class Rows(io.RawIOBase):
    """A file that is never whole: rows are made as they are read."""

    def __init__(self, rows: Iterator[bytes]) -> None:
        self.rows = rows

    def readline(self, size: int | None = -1, /) -> bytes:
        return next(self.rows, b"")


def test_rows_are_read_one_by_one_and_need_no_memory() -> None:
    """A list without an end gives its first machines; three thousand rows take no more memory than one."""
    rows = itertools.chain([b"name\n"], (b"web%d\n" % number for number in itertools.count()))
    found = listed.discover(Rows(rows))  # type: ignore[arg-type]
    assert next(found) == Sighting("csv", "web0")
    tracemalloc.start()
    try:
        assert sum(1 for _ in itertools.islice(found, 3_000)) == 3_000
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


cell = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)


@given(st.lists(st.lists(cell, min_size=3, max_size=3), max_size=5), st.sampled_from(",;\t"))
def test_what_csv_writes_is_read_row_by_row(rows: list[list[str]], separator: str) -> None:
    """Any text in any cell, written by an independent writer: each row is a machine, or left out by its line."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerows([["name", "group", "address"], *rows])
    found = read(text.getvalue())
    assert len(found) == sum(any(row) for row in rows)
    for row, one in zip([row for row in rows if any(row)], found, strict=True):
        if isinstance(one, Sighting):
            assert one.group == row[1].strip()
            assert one.name == row[0].strip().lower().removesuffix(".").partition(".")[0]


hosts = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True).filter(lambda one: one != "localhost")
sightings = st.builds(
    Sighting,
    source=st.just("csv"),
    name=hosts,
    domain=st.sampled_from(["", "corp.example", "lab"]),
    addresses=st.lists(st.ip_addresses(v=4, network="10.0.0.0/8").map(str), max_size=2, unique=True).map(
        tuple
    ),
    port=st.none() | st.integers(1, 65535),
    transport=st.sampled_from(["", "ssh", "winrm", "local"]),
    platform=st.sampled_from(["", "linux", "windows", "plan 9"]),
    macs=st.lists(
        st.from_regex(r"0[0-9a-e]{11}1", fullmatch=True).map(lambda one: one[1:]), max_size=2, unique=True
    ).map(tuple),
    host_keys=st.just(()),
    group=st.sampled_from(["", "SecureNetwork", 'a "b", c;', "é"]),
)


@pytest.mark.parametrize("address", ["", "127.0.0.1", "::1", "127.9.0.1 ::1"])
def test_this_machine_has_no_other_machines_address(address: str) -> None:
    (found,) = read(f"name,address,transport\nhere,{address},local\n")
    assert isinstance(found, Sighting)
    assert (found.transport, found.addresses) == ("local", tuple(address.split()))


@settings(max_examples=50)
@given(sightings.filter(lambda one: one.transport != "local" or not one.addresses), st.sampled_from(",;\t"))
def test_a_machine_that_is_written_is_read_again(one: Sighting, separator: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(listed.COLUMNS)
    port = "" if one.port is None else one.port
    writer.writerow(
        [
            one.name,
            one.domain,
            " ".join(one.addresses),
            port,
            one.transport,
            one.group,
            " ".join(one.macs),
            one.platform,
        ]
    )
    assert read(text.getvalue()) == [one]


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, headed: bool) -> None:
    code = ""
    try:
        read((b"name,address\n" if headed else b"") + data)
    except Refused as error:
        code = error.refusal.code if error.refusal.detail.isprintable() else "it steers a terminal"
    assert code in ("", "list-malformed")
