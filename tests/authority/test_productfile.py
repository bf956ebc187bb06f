"""Product files: what is right becomes claims, what is wrong is named with its line."""

import pytest

from volact.authority import productfile
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import Refused

GOOD = """\
id = "com.example.cad"
name = "Example CAD"
edition = "client"

[authority]
url = "https://licensing.example.com"

[policy]
thresholds = [{count = "machines", minimum = 25}]
validity = "180d"
renewal = "7d"
retry = "2h"
record_lifetime = "30d"
initial_grace = "10d"
rearms = 5
"""


def test_a_good_file_becomes_claims() -> None:
    claims = productfile.read(GOOD)
    assert claims == {
        "sub": "com.example.cad",
        "name": "Example CAD",
        "edition": "client",
        "url": "https://licensing.example.com",
        "pol": {"initial_grace": 10 * DAY, "rearms": 5},
    }


def test_the_least_file_has_every_default() -> None:
    assert productfile.read('id = "a"\nname = "A"\nedition = "server"\n')["pol"] == {}


def test_durations_in_minutes_hours_and_days() -> None:
    pol = productfile.read(GOOD.replace('"2h"', '"30m"').replace('"7d"', '"36h"'))["pol"]
    assert (pol["retry"], pol["renewal"]) == (HOUR // 2, 36 * HOUR)


@pytest.mark.parametrize(
    ("was", "becomes", "line", "says"),
    [
        ('edition = "client"', 'editoin = "client"', 3, "did you mean 'edition'"),
        ('edition = "client"', 'edition = "clients"', 3, '"client" or "server"'),
        ('edition = "client"\n', "", 1, "edition is missing"),
        ('id = "com.example.cad"', 'id = "Com.Example"', 1, "product id"),
        ('id = "com.example.cad"', "id = 7", 1, "product id"),
        ('name = "Example CAD"', 'name = ""', 2, "1 to 200"),
        ("url =", "ulr =", 6, "did you mean 'url'"),
        ('"https://licensing.example.com"', '"http://licensing.example.com"', 6, "https://"),
        ('"https://licensing.example.com"', "5", 6, "https://"),
        ("renewal =", "renewel =", 11, "did you mean 'renewal'"),
        ('"180d"', '"180"', 10, "duration"),
        ('"180d"', "180", 10, "duration"),
        ('"180d"', '"30m"', 10, "1 h to 3650 d"),
        ('"7d"', '"60d"', 11, "at most validity / 4"),
        ('"2h"', '"8d"', 12, "15 min to renewal"),
        ('"30d"', '"13d"', 13, "2 renewals"),
        ("rearms = 5", "rearms = 101", 15, "0 to 100"),
        ("rearms = 5", 'rearms = "5"', 15, "0 to 100"),
        ('"machines"', '"machine"', 9, "machines"),
        ("minimum = 25", "minimum = 0", 9, "100000"),
        ("[authority]", "[authorities]", 5, "did you mean 'authority'"),
        ('name = "Example CAD"', "name = ", 2, "not TOML"),
        ('name = "Example CAD"', 'name = "A"\nname = "B"', 3, "not TOML"),
        ('name = "Example CAD"', 'name = "A\\u001b[31m"', 2, "printable"),
        ('name = "Example CAD"', 'name = "A"\nx = ' + "[" * 5000, 1, "nested too deeply"),
        ('"https://licensing.example.com"', '"https://"', 6, "address such as"),
        ('"https://licensing.example.com"', '"https://a b/"', 6, "address such as"),
        ('"https://licensing.example.com"', '"https://a:99999/"', 6, "address such as"),
        ("rearms = 5", "rearms = 5.0", 15, "0 to 100"),
        ("rearms = 5", "rearms = true", 15, "0 to 100"),
        ("rearms = 5", "rearms = 99999999999999999999", 15, "0 to 100"),
        ("rearms = 5", "rearms = -1", 15, "0 to 100"),
        ('"180d"', "2030-01-01", 10, "duration"),
        ("minimum = 25", "minimum = 25, more = 1", 9, "machines"),
        ("[authority]\nurl", "authority = 5\n[x]\nurl", 6, "there is no 'x'"),
        ('[authority]\nurl = "https://licensing.example.com"', "authority = 5", 5, "must be a section"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(was: str, becomes: str, line: int, says: str) -> None:
    assert was in GOOD
    with pytest.raises(Refused) as refused:
        productfile.read(GOOD.replace(was, becomes, 1))
    refusal = refused.value.refusal
    assert refusal.code == "product-file-invalid"
    assert says in refusal.detail
    assert dict(refusal.extra)["line"] == line


def test_a_file_as_an_editor_may_write_it() -> None:
    assert (
        productfile.read_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())["sub"]
        == "com.example.cad"
    )


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (GOOD.encode() + b"# \xff", GOOD.count("\n") + 1, "UTF-8"),
        (b"#" * (productfile.MOST_BYTES + 1), 1, "larger"),
    ],
)
def test_what_is_no_text(content: bytes, line: int, says: str) -> None:
    with pytest.raises(Refused) as refused:
        productfile.read_bytes(content)
    assert says in refused.value.refusal.detail
    assert dict(refused.value.refusal.extra)["line"] == line


@pytest.mark.parametrize(
    "section", ["[policy] # ours\nrenewel = 1\n", "policy.renewel = 1\n", "policy = {renewel = 1}\n"]
)
def test_the_line_however_the_section_is_written(section: str) -> None:
    text = 'id = "a"\nname = "A"\nedition = "server"\n' + section
    with pytest.raises(Refused) as refused:
        productfile.read(text)
    assert dict(refused.value.refusal.extra)["line"] in (4, 5)
