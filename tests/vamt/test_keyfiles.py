"""V4, M7, M8: lists of keys, one a line or as `authority key issue --csv` writes them; wrong lines by number."""

from hypothesis import given
from hypothesis import strategies as st

from volact.protocol import keys
from volact.vamt import keyfiles
from world import PRODUCT, new_key

GOOD = keys.make(bytes(range(10)), "mak", 1)
OTHER = keys.make(bytes(range(1, 11)), "retail", 2)
HOST = keys.make(bytes(range(2, 12)), "kms-host", 3)


def lines(text: str, product: str = "") -> list[tuple[int, str]]:
    found, wrong = keyfiles.read(text, product)
    assert not any(one.key.symbols[:5] in f"{wrong}" for one in found)
    return [(one.line, one.refusal.code) for one in wrong]


def test_one_key_a_line() -> None:
    text = f"\ufeff{GOOD.text()}\r\n\n  {OTHER.text().lower()}  \n"
    found, wrong = keyfiles.read(text, PRODUCT)
    assert wrong == []
    assert [(one.key, one.product) for one in found] == [(GOOD, PRODUCT), (OTHER, PRODUCT)]
    assert not keyfiles.is_table(text)


def test_the_csv_of_an_authority() -> None:
    text = (
        "key,label,kind,product,activations\n"
        f"{GOOD.text()},{GOOD.label},mak,com.example.aaa,10\n\n"
        f'"{OTHER.text()}",x,retail,,1\n'
    )
    found, wrong = keyfiles.read(text, PRODUCT)
    assert wrong == []
    assert [(one.key, one.product) for one in found] == [(GOOD, "com.example.aaa"), (OTHER, PRODUCT)]
    assert keyfiles.is_table(text)
    assert lines(text) == [(4, "product-unknown")]


def test_columns_in_any_order_and_case() -> None:
    quoted = f'"Key","Product"\n"{GOOD.text()}","{PRODUCT}"\n'
    assert keyfiles.is_table(quoted)
    assert keyfiles.read(quoted, "") == ([keyfiles.Wanted(GOOD, PRODUCT)], [])
    found, _ = keyfiles.read(f"Product, KEY\n{PRODUCT},{GOOD.text()}\n", "")
    assert [(one.key, one.product) for one in found] == [(GOOD, PRODUCT)]


def test_wrong_lines_are_named_by_number() -> None:
    mistyped = GOOD.text()[:-1] + "2"
    text = f"{GOOD.text()}\n{mistyped}\n\nnonsense\n{HOST.text()}\n"
    assert lines(text, PRODUCT) == [(2, "key-mistyped"), (4, "key-mistyped"), (5, "key-wrong-kind")]
    table = f"key,product\n{mistyped},{PRODUCT}\n,\n{GOOD.text()},Not A Product\n"
    assert lines(table) == [(2, "key-mistyped"), (3, "key-mistyped"), (4, "product-unknown")]
    assert lines(f"key,product\n{'x' * 200_000}\n", PRODUCT) == [(2, "key-mistyped")]


def test_nothing() -> None:
    assert keyfiles.read("", PRODUCT) == ([], [])
    assert keyfiles.read("\n \n", PRODUCT) == ([], [])
    assert not keyfiles.is_table("")


@given(st.text(max_size=200), st.booleans())
def test_any_text_is_read_and_nothing_of_it_is_repeated(text: str, table: bool) -> None:
    key = new_key("kms-host")
    found, wrong = keyfiles.read(
        f"key,product\n{text}\n{key.text()}" if table else f"{text}\n{key.text()}", PRODUCT
    )
    assert found == []
    assert wrong
    assert key.text()[:23] not in f"{wrong}"
