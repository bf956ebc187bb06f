"""Limits of speed per key, and per key and source (M10, T4), as the settings say.

What carries no proof of the key (``return``, ``extend``) can be signed by anybody who knows the key's thumbprint, so it
takes nothing from the key's rate, nor from what its source may ask with the key: it has a bucket of its own, as large
as a source's, for each key and source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.config import SettingInvalid
from volact.sources import Buckets, too_many

if TYPE_CHECKING:
    from volact.config import AuthoritySettings
    from volact.protocol.problems import Refusal


class Speed:
    """The limits of one process."""

    def __init__(self, settings: AuthoritySettings) -> None:
        """Limit as the settings say; raises like `use`."""
        self._keys: Buckets[int] = Buckets(0, 0)
        self._sources: Buckets[tuple[int, str]] = Buckets(0, 0)
        self._unproved: Buckets[tuple[int, str]] = Buckets(0, 0)
        self.use(settings)

    def use(self, settings: AuthoritySettings) -> None:
        """Limit as these settings say from now on; what was used of a limit stays used.

        Raises:
            SettingInvalid: if one is below 0.
        """
        for name in ("key_rate", "key_burst", "source_rate", "source_burst"):
            if getattr(settings, name) < 0:
                raise SettingInvalid(f"The setting {name} must be 0 (no limit) or more.")
        self._keys.limit(settings.key_rate, settings.key_burst)
        self._sources.limit(settings.source_rate, settings.source_burst)
        self._unproved.limit(settings.source_rate, settings.source_burst)

    def limit_unproved(self, key: int, source: str, now: int) -> Refusal | None:
        """Take one ask that names a key and does not prove it out of its own bucket, or say how long to wait."""
        return self._unproved.limited((key, source), now)

    def limit(self, key: int, source: str, now: int) -> Refusal | None:
        """Take one ask of a key from a source out of both buckets, or say how long to wait."""
        of_source, wait = self._sources.look((key, source), now)
        if wait:
            return too_many(wait)
        of_key, wait = self._keys.look(key, now)
        if wait:
            return too_many(wait)
        self._sources.keep((key, source), of_source)
        self._keys.keep(key, of_key)
        return None
