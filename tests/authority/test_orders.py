"""Keys, their numbers, sources and speed: the pure part (M1, M10, K9)."""

import pytest

from volact.authority import orders
from volact.authority.orders import HostRow, Order
from volact.protocol.problems import Refusal


def order(**values: object) -> Order:
    usual = {
        "id": 1, "thumbprint": "t", "kind": "mak", "label": "M0000", "product": 1, "cus": "c", "bought": 10, "used": 0,
    }  # fmt: skip
    return Order(**{**usual, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "activations", "bought"),
    [
        ("mak", 1, 1),
        ("mak", 50, 50),
        ("mak", 2**53 - 1, 2**53 - 1),
        ("retail", None, 1),
        ("kms-host", None, 6),
    ],
)
def test_what_a_new_key_is_good_for(kind: str, activations: int | None, bought: int) -> None:
    assert orders.bought_by(kind, activations) == bought


@pytest.mark.parametrize(
    ("kind", "activations"),
    [("mak", None), ("mak", 0), ("mak", -1), ("mak", 2**53), ("retail", 2), ("retail", 1), ("kms-host", 6)],
)
def test_numbers_that_a_kind_does_not_take(kind: str, activations: int | None) -> None:
    assert isinstance(orders.bought_by(kind, activations), Refusal)


def test_a_number_is_raised_and_never_lowered() -> None:
    assert orders.raised(order(), 11) is None
    assert orders.raised(order(kind="kms-host", bought=6), 7) is None
    assert orders.raised(order(), 2**53 - 1) is None
    for refused in (
        orders.raised(order(), 10),
        orders.raised(order(), 9),
        orders.raised(order(), 2**53),
        orders.raised(order(kind="retail"), 2),
    ):
        assert refused
        assert refused.code == "raise-refused"


@pytest.mark.parametrize(
    ("source", "listed", "bound", "networks", "entitled"),
    [
        ("192.0.2.1", False, False, (), True),
        ("192.0.2.1", True, True, (), True),
        ("192.0.2.1", False, True, (), False),
        ("192.0.2.1", False, True, ("192.0.2.0/24",), True),
        ("192.0.3.1", False, False, ("192.0.2.0/24",), False),
        ("192.0.3.1", True, True, ("192.0.2.0/24",), True),
        ("file", False, False, ("0.0.0.0/0",), False),
        ("2001:db8::1", False, False, ("192.0.2.0/24", "2001:db8::/32"), True),
    ],
)
def test_who_is_entitled(
    source: str, listed: bool, bound: bool, networks: tuple[str, ...], entitled: bool
) -> None:
    refusal = orders.check_entitled(order(machines_bound=bound, networks=networks), source, listed=listed)
    assert (refusal is None) is entitled


def test_precedence_for_a_host_key() -> None:
    bound = {"machines_bound": True}
    full = {"kind": "kms-host", "bought": 6, "used": 6}
    worn = HostRow("a", "h", 10, "all")

    def code(known: HostRow | None, **values: object) -> str:
        refusal = orders.decide_host(order(**values), known, "file", listed=False)
        return refusal.code if refusal else ""

    assert code(worn, **full, **bound, blocked="new") == "key-blocked"
    assert code(worn, **full, **bound) == "machine-not-entitled"
    assert code(worn, **full) == "machine-blocked"
    assert code(worn._replace(blocked=""), **full) == "host-activated-too-often"
    assert code(worn._replace(blocked="", activations=9), **full) == ""
    assert code(None, **full) == "no-activations-left"
    assert code(None, kind="kms-host", bought=6, used=5) == ""
