"""Named tuples that start cold: they are what `typing.NamedTuple` makes (docs/adr/0002)."""

from typing import Any

import pytest

from volact.protocol import values
from volact.protocol.values import NamedTuple


class Pair(NamedTuple):
    """A pair."""

    left: int
    right: int = 2

    @property
    def total(self) -> int:
        """Both together."""
        return self.left + self.right


def test_a_value_has_fields_defaults_and_methods() -> None:
    """STYLE 6: frozen values."""
    pair = Pair(1)
    assert (pair.left, pair.right, pair.total) == (1, 2, 3)
    assert tuple(pair) == (1, 2)
    assert isinstance(pair, tuple)
    assert pair._replace(right=5)._asdict() == {"left": 1, "right": 5}
    assert Pair._fields == ("left", "right")
    assert (Pair.__name__, Pair.__module__) == ("Pair", __name__)
    assert Pair.__doc__ == "A pair."
    assert repr(pair) == "Pair(left=1, right=2)"
    with pytest.raises(AttributeError):
        setattr(pair, "left", 3)  # noqa: B010 - mypy would not let an assignment pass
    with pytest.raises(TypeError):
        Pair(**dict[str, int]())


def test_slots_in_the_body_do_no_harm() -> None:
    maker: Any = values.NamedTuple
    body = {"__module__": __name__, "__annotations__": {"left": int}, "__slots__": ()}
    made = type(maker)("Single", (maker,), body)
    assert made(1)._asdict() == {"left": 1}
