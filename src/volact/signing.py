"""Signing keys in files: made once, 0600, never printed, never used when others can read them.

A key signs deterministically (RFC 6979), so a recorded payload signed again gives the same token.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from volact.files import PRIVATE, write_durably
from volact.protocol import documents, jws
from volact.protocol.ids import Jwk
from volact.protocol.problems import BrokenData

if TYPE_CHECKING:
    from pathlib import Path

_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Signer:
    """A private key with its public names; the one thing that can sign.

    Attributes:
        jwk: the public half.
        kid: its thumbprint.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Sign with `key`, a P-256 key."""
        self._key = key
        point = key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.jwk = Jwk.of_point(point)
        self.kid = self.jwk.thumbprint()

    def __repr__(self) -> str:
        """Name the key by its public thumbprint."""
        return f"Signer({self.kid})"

    def sign_payload(self, name: str, payload: bytes) -> str:
        """The token of a payload that was written (and recorded) before, as document `name`."""
        return jws.sign(documents.typ_of(name), self.kid, payload, self._key)

    def sign(self, name: str, claims: dict[str, object]) -> str:
        """Write and sign a document; `iss` is this key."""
        return self.sign_payload(name, documents.write(name, {**claims, "iss": self.kid}))

    def bundle(self, name: str, claims: dict[str, object]) -> dict[str, object]:
        """A self-keyed document as it travels: ``{"token", "jwk"}``."""
        return {"token": self.sign(name, claims), "jwk": self.jwk.members()}

    def pem(self) -> bytes:
        """The private key, PKCS 8 in PEM, for its file and for nothing else."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def generate() -> Signer:
    """A new key from the operating system's randomness."""
    return Signer(ec.generate_private_key(ec.SECP256R1()))


def create(path: Path) -> Signer:
    """Make a new key and store it durably in `path`, 0600.

    Raises:
        BrokenData: if the file exists; a key is never overwritten.
        OSError: if it cannot be written.
    """
    if path.exists():
        raise BrokenData(f"{path} exists; a key is never overwritten", "already-exists")
    signer = generate()
    write_durably(path, signer.pem(), PRIVATE)
    return signer


def load(path: Path) -> Signer:
    """Load the key in `path`.

    Raises:
        BrokenData: if it is missing, readable by others, or no P-256 private key.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _READABLE_BY_OTHERS:
                raise BrokenData(f"{path} can be read by others.", "key-file-exposed")
            key = serialization.load_pem_private_key(file.read(), password=None)
    except FileNotFoundError:
        raise BrokenData(f"The key file {path} is missing.", "not-readable") from None
    except OSError as error:
        raise BrokenData(f"{path}: {error.strerror}.", "not-readable") from None
    except (ValueError, TypeError):
        raise BrokenData(f"{path} holds no private key.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BrokenData(f"{path} holds no P-256 private key.")
    return Signer(key)
