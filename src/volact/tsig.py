"""Reads the file of a TSIG key as `tsig-keygen` writes it (RFC 8945, T18): a text in, a key out.

Which names, algorithms and secrets are good enough is the caller's matter. What is wrong is said without the secret.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

_COMMENTS = re.compile(r"//[^\n]*|#[^\n]*|/\*.*?\*/", re.DOTALL)
_KEY = re.compile(r'\s*key\s+("?)([^\s"{};]+)\1\s*\{([^{}]*)\}\s*;?\s*')
_STATEMENT = re.compile(r'\s*(algorithm|secret)\s+("?)([^\s";]+)\2\s*')


class Key(NamedTuple):
    """A TSIG key; its algorithm is in small letters."""

    name: str
    algorithm: str
    secret: bytes


class Malformed(ValueError):
    """A text is no file of one key; the message says why."""


def read(text: str) -> Key:
    """Read the one key in a file.

    Raises:
        Malformed: if it is not that.
    """
    match = _KEY.fullmatch(_COMMENTS.sub(" ", text))
    if match is None:
        raise Malformed('It holds no single `key "NAME" { algorithm ...; secret "..."; };`')
    members: dict[str, str] = {}
    for statement in match[3].split(";"):
        found = _STATEMENT.fullmatch(statement)
        if found and found[1] not in members:
            members[found[1]] = found[3]
        elif statement.strip():
            raise Malformed("In it stands something else than one algorithm and one secret")
    if len(members) != 2:  # noqa: PLR2004 - these two
        raise Malformed("It needs an algorithm and a secret")
    try:
        secret = base64.b64decode(members["secret"], validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("Its secret is not base64") from None
    return Key(match[2], members["algorithm"].lower().rstrip("."), secret)
