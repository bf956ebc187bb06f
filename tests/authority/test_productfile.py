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
