"""V3: the language of filters: one parsed form, errors that name the place and the nearest name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.protocol.problems import Refusal
from volact.vamt import filters
from volact.vamt.filters import FIELDS, MOST_TERMS, MOST_TEXT, MOST_VALUES, Term, parse, quoted

DAY = 86400


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("   ", []),
        ("name=web1", [Term("name", "=", ("web1",))]),
        (" name=WEB1  ", [Term("name", "=", ("web1",))]),
        ("NAME~we", [Term("name", "~", ("we",))]),
        ("name!~we", [Term("name", "!~", ("we",))]),
        ("product=com.example.*", [Term("product", "=", ("com.example.*",))]),
        ("key!=mak,retail", [Term("key", "!=", ("mak", "retail"))]),
        ("state=unlicensed", [Term("state", "=", ("0",))]),
        ("state=Licensed,initial-grace", [Term("state", "=", ("1", "2"))]),
        ("state=out-of-tolerance-grace,4,notification,6", [Term("state", "=", ("3", "4", "5", "6"))]),
        ('group="Secure Network",b', [Term("group", "=", ("secure network", "b"))]),
        (r'system="a \"b\" \\c"', [Term("system", "=", ('a "b" \\c',))]),
        ('notes=""', None),
        ('reason=""', [Term("reason", "=", ("",))]),
        ("virtual=yes proof!=proved", [Term("virtual", "=", ("yes",)), Term("proof", "!=", ("proved",))]),
        ("seen<7d", [Term("seen", "<", ("7d",), 7 * DAY)]),
        (
            "collected>12h expires<30m",
            [Term("collected", ">", ("12h",), 43200), Term("expires", "<", ("30m",), 1800)],
        ),
        (
            "state=unlicensed product=com.example.* group=SecureNetwork key=mak name~web seen<7d",
            [
                Term("state", "=", ("0",)),
                Term("product", "=", ("com.example.*",)),
                Term("group", "=", ("securenetwork",)),
                Term("key", "=", ("mak",)),
                Term("name", "~", ("web",)),
                Term("seen", "<", ("7d",), 7 * DAY),
            ],
        ),
    ],
)
def test_a_filter_is_read(text: str, terms: list[Term] | None) -> None:
    found = parse(text)
    assert isinstance(found, Refusal) if terms is None else found == tuple(terms)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web1", "At character 1: 'web1' is no FIELD=VALUE."),
        ("name=a web1", "At character 8: 'web1' is no FIELD=VALUE."),
        ("=a", "At character 1: '=a' is no FIELD=VALUE."),
        ("nam=web1", "At character 1: there is no field 'nam'; did you mean 'name'?"),
        ("name=a stat=1", "At character 8: there is no field 'stat'; did you mean 'state'?"),
        ("colour=red", f"At character 1: there is no field 'colour'; there are {', '.join(FIELDS)}."),
        ("name<3d", "At character 5: name takes = != ~ !~, not <."),
        ("state~lic", "At character 6: state takes = !=, not ~."),
        ("seen=7d", "At character 5: seen takes < >, not =."),
        ("name=", "At character 6: name has no value here."),
        ("name=a,", "At character 8: name has no value here."),
        ("name=,a", "At character 6: name has no value here."),
        ('name="a', "At character 6: a quote is not closed."),
        ('name="a"b', "At character 9: a blank is missing here."),
        ("seen<7", "At character 6: seen takes one span such as 30m, 12h or 7d."),
        ("seen<7d,8d", "At character 6: seen takes one span such as 30m, 12h or 7d."),
        ("state=licenced", "At character 7: 'licenced' is no state; did you mean 'licensed'?"),
        ("state=7", f"At character 7: '7' is no state; there are {', '.join(filters.STATE_WORDS)}."),
        ("state=²", f"At character 7: '²' is no state; there are {', '.join(filters.STATE_WORDS)}."),
        ("virtual=maybe", "At character 9: 'maybe' is no virtual; there are yes, no."),
        ("name=a\0b", "At character 7: no text has such a character."),
        ('group="\ud800"', "At character 8: no text has such a character."),
        ("proof=prooved", "At character 7: 'prooved' is no proof; did you mean 'proved'?"),
    ],
)
def test_an_error_names_the_place_and_what_would_be_right(text: str, said: str) -> None:
    found = parse(text)
    assert isinstance(found, Refusal)
    assert (found.code, found.detail) == ("filter-malformed", said)


def test_the_state_words_are_those_of_the_rules() -> None:
    """Rule E: the states 0 to 6."""
    assert [parse(f"state={word}") for word in filters.STATE_WORDS] == [
        (Term("state", "=", (str(number),)),) for number in range(7)
    ]


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda n: " ".join(["name=a"] * n), MOST_TERMS),
        (lambda n: "name=" + ",".join(["a"] * n), MOST_VALUES),
        (lambda n: "name=" + "a" * (n - 5), MOST_TEXT),
    ],
    ids=["terms", "values", "characters"],
)
def test_a_filter_has_bounds(make: object, most: int) -> None:
    assert callable(make)
    assert not isinstance(parse(make(most - 1)), Refusal)
    assert not isinstance(parse(make(most)), Refusal)
    refused = parse(make(most + 1))
    assert isinstance(refused, Refusal)
    assert str(most) in refused.detail


@given(st.text(max_size=60))
def test_no_text_is_more_than_refused(text: str) -> None:
    found = parse(text)
    assert getattr(found, "code", "filter-malformed") == "filter-malformed"


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
        min_size=1,
        max_size=5,
    )
)
def test_every_value_can_be_written(values: list[str]) -> None:
    found = parse("name=" + ",".join(quoted(value) for value in values))
    assert found == (Term("name", "=", tuple(value.lower() for value in values)),)
