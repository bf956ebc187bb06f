"""The TLS certificates that services show: a self-made one, a set one, and the digest that peers compare.

Licence trust rests on signatures. A certificate's names and dates say nothing here; its public key is compared with
what a signed document names (DESIGN section 2, PROTOCOL section 6).
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from volact import calls
from volact.config import SettingInvalid
from volact.files import PRIVATE, write_durably
from volact.protocol.policy import CLOCK_TOLERANCE
from volact.protocol.problems import BrokenData

_DAYS = 7300
_MOST_NAME = 64
CERTIFICATE, KEY = "certificate.pem", "key.pem"


def make(place: Path, name: str) -> None:
    """Make the folder `place` with a P-256 key and a self-made certificate for it.

    Raises:
        OSError: if something cannot be written.
    """
    place.mkdir(mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_MOST_NAME])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=CLOCK_TOLERANCE))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_durably(place / KEY, pem, PRIVATE)
    write_durably(place / CERTIFICATE, made.public_bytes(serialization.Encoding.PEM))


def chosen(tls_certificate: str, tls_key: str, own: Path) -> tuple[Path, Path]:
    """The files of certificate and key: the two that are set, or the self-made ones in the folder `own`.

    Raises:
        SettingInvalid: if only one of the two is set.
    """
    if bool(tls_certificate) is not bool(tls_key):
        raise SettingInvalid("The settings tls_certificate and tls_key are set together or not at all.")
    if tls_certificate:
        return Path(tls_certificate), Path(tls_key)
    return own / CERTIFICATE, own / KEY


def digest(path: Path) -> str:
    """What signed documents say of a connection: SHA-256 of the public key in a PEM certificate, 43 characters.

    Raises:
        BrokenData: if it cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise BrokenData(f"{path} holds no certificate that can be read.", "not-readable") from None
    return calls.spki_digest(certificate.public_bytes(serialization.Encoding.DER))


def check(certificate: Path, key: Path) -> None:
    """Look whether a certificate and its private key can be served with, and say exactly what is wrong with them.

    Raises:
        BrokenData: `not-readable`, or `key-file-exposed` if everybody can read the private key.
    """
    try:
        first = x509.load_pem_x509_certificates(certificate.read_bytes())[0].public_key()
    except OSError as error:
        raise BrokenData(f"{certificate}: {error.strerror}.", "not-readable") from None
    except (ValueError, TypeError):
        raise BrokenData(f"{certificate} holds no certificate that can be read.", "not-readable") from None
    try:
        with key.open("rb") as file:
            # A group may read it: Debian keeps such keys for the group ssl-cert.
            if os.fstat(file.fileno()).st_mode & stat.S_IRWXO:
                raise BrokenData(f"{key} can be read by others.", "key-file-exposed")
            private: Any = serialization.load_pem_private_key(file.read(), password=None)
    except OSError as error:
        raise BrokenData(f"{key}: {error.strerror}.", "not-readable") from None
    except (ValueError, TypeError):
        # An encrypted one is a TypeError: nobody is here to type its password.
        raise BrokenData(f"{key} holds no private key without a password.", "not-readable") from None
    if private.public_key() != first:
        raise BrokenData(f"{key} is not the key of the first certificate in {certificate}.", "not-readable")
