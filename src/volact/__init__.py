"""volact: volume activation for any publisher's product, self-hosted.

A product asks whether it may run::

    import volact

    licence = volact.check("com.example.cad", root="...")  # offline, no network, a few ms
    licence.allowed, licence.licensed, licence.state, licence.reason, licence.expires, licence.warn

`check` is loaded at its first use, with the standard library and ``cryptography`` and nothing else.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from volact.client.check import Licence, check

__all__ = ["Licence", "__version__", "check"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in ("check", "Licence"):
        from volact.client import check as module  # noqa: PLC0415 - the point of it

        return getattr(module, name)
    raise AttributeError(f"module 'volact' has no attribute {name!r}")
