"""The file of the TSIG key that signs DNS updates (T18); `dnsrecords` reads what is in it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from volact.kmshost import dnsrecords
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from volact.config import KmshostSettings
    from volact.tsig import Key

_MOST_BYTES = 65536


def load(path: str) -> Key | Refusal:
    """The TSIG key in the file that the setting names; a file that everybody can read is not used (T18)."""
    if not path:
        return Refusal("dns-key-missing")
    file = Path(path)
    try:
        if stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH:
            return Refusal("key-file-exposed", "It is the file that dns_key_file names.")
        data = file.read_bytes()[:_MOST_BYTES]
    except OSError as error:
        return Refusal(
            "dns-key-missing", f"The file that dns_key_file names cannot be read: {error.strerror}."
        )
    try:
        return dnsrecords.read_key(data.decode())
    except UnicodeDecodeError:
        return Refusal("dns-key-malformed", "It is no text.")


def problem_of(settings: KmshostSettings) -> str:
    """What is wrong with the key file that is set, with the setting's name; empty if nothing is, or none is needed."""
    if not (settings.dns_publishing and settings.dns_domains and settings.dns_key_file):
        return ""
    key = load(settings.dns_key_file)
    return f"dns_key_file: {key}" if isinstance(key, Refusal) else ""
