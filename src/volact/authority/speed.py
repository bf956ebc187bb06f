"""Limits of speed per key, and per key and source (M10, T4); the arithmetic is `orders.take`.

In memory and for one process: after a restart every bucket is full again, which a limit that only slows a leak
down can afford.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from volact.authority import orders
from volact.config import SettingInvalid
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from volact.authority.orders import Bucket
    from volact.config import AuthoritySettings

_REMEMBERED = 100_000
_Name = TypeVar("_Name")


class Speed:
    """The buckets of one process."""

    def __init__(self, settings: AuthoritySettings) -> None:
        """Limit as the settings say; raises like `use`."""
        self._keys: dict[int, Bucket] = {}
        self._sources: dict[tuple[int, str], Bucket] = {}
        self.use(settings)

    def use(self, settings: AuthoritySettings) -> None:
        """Limit as these settings say from now on; what was used of a limit stays used.

        Raises:
            SettingInvalid: if one is below 0.
        """
        for name in ("key_rate", "key_burst", "source_rate", "source_burst"):
            if getattr(settings, name) < 0:
                raise SettingInvalid(f"The setting {name} must be 0 (no limit) or more.")
        self._key = settings.key_rate, settings.key_burst
        self._source = settings.source_rate, settings.source_burst

    def limit(self, key: int, source: str, now: int) -> Refusal | None:
        """Take one ask of a key from a source out of both buckets, or say how long to wait."""
        of_source, wait = orders.take(self._sources.get((key, source)), *self._source, now)
        if wait:
            return _wait(wait)
        of_key, wait = orders.take(self._keys.get(key), *self._key, now)
        if wait:
            return _wait(wait)
        if of_source:
            _make_room(self._sources, (key, source))
            self._sources[key, source] = of_source
        if of_key:
            _make_room(self._keys, key)
            self._keys[key] = of_key
        return None


def _make_room(buckets: dict[_Name, Bucket], name: _Name) -> None:
    # What was used last stands last, so that the one that goes is the one that has filled up longest.
    if buckets.pop(name, None) is None and len(buckets) >= _REMEMBERED:
        del buckets[next(iter(buckets))]


def _wait(seconds: int) -> Refusal:
    return Refusal("too-many-requests", f"Wait {seconds} s.", (("retry_after", seconds),))
