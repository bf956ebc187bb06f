"""volact: volume activation for any publisher's product, self-hosted.

A product asks whether it may run::

    import volact

    licence = volact.check("com.example.cad", root="...")  # offline, no network, a few ms
    licence.allowed, licence.licensed, licence.state, licence.reason, licence.expires, licence.warn

`check` is loaded at its first use, with the standard library and ``cryptography`` and nothing else.
"""

import gc
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from volact.client.check import check
    from volact.client.lifecycle import Licence

__all__ = ["Licence", "__version__", "check"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in ("check", "Licence"):
        # Loading makes no garbage, but so many objects that a collector would look for some twice: 2 ms of it.
        collecting = gc.isenabled()
        gc.disable()
        try:
            from volact.client import check as module  # noqa: PLC0415 - the point of it
        finally:
            if collecting:
                gc.enable()
        globals()[name] = getattr(module, name)
        return globals()[name]
    raise AttributeError(f"module 'volact' has no attribute {name!r}")
