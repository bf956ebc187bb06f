"""Named tuples that start cold: what a class of values is made with where `volact.check()` passes by (docs/adr/0002).

For type checkers this is `typing.NamedTuple`, and the classes are the same. That one compiles each annotation of
each class, which is a third of all that `check()` may take; nothing here reads annotations at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414 - re-exported
else:
    from collections import namedtuple

    class _Maker(type):
        """Turns a class body with annotations into a named tuple with the body's methods."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body.pop("__annotations__", {})
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])  # noqa: PYI024
            for member, value in body.items():
                if member != "__slots__":
                    setattr(made, member, value)
            return made

    class NamedTuple(metaclass=_Maker):
        """What a class of values inherits from; the class itself is a tuple and no child of this one."""
