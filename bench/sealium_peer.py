"""Prepares sealium, the peer to compare with: its settings, its codes, and its encrypted requests.

Runs in sealium's own environment (.venv-bench). Rate limit off and pepper set by its own settings, one code
and one fingerprint a machine: what it takes for each request to be an activation.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path

from load import write_bodies
from sealium.client.key_manager import ClientKeyManager
from sealium.common.crypto import RSAEncryptor, hash_activation_code
from sealium.common.fingerprint import DEFAULT_WEIGHTS, Component, MachineFingerprint, hash_component
from sealium.common.models import ActivationCode, ActivationRequest
from sealium.server.database import ActivationCodeStorage, SQLiteDatabase


def fingerprint() -> MachineFingerprint:
    """A machine that never existed, with every component that sealium knows."""
    parts = [
        Component(
            spec.category, hash_component(spec.category, secrets.token_hex(8), pepper="bench"), spec.is_core
        )
        for spec in DEFAULT_WEIGHTS
    ]
    return MachineFingerprint(components=tuple(parts), spoof_score=0.0)


def settings(folder: Path, port: int, pepper: str) -> str:
    """sealium.toml: everything as it comes, but for the rate limit, the pepper and the places."""
    return (
        f'[server]\nport = {port}\n\n[paths]\ndatabase = "{folder}/sealium.db"\n'
        f'private_key = "{folder}/private.pem"\n\n[security]\ncode_hash_pepper = "{pepper}"\n\n'
        '[rate_limit]\nenabled = false\n\n[logging]\nlevel = "WARNING"\n'
    )


def main() -> None:
    """Fill the folder argv[1] for argv[2] activations on port argv[3]."""
    folder, count, port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    pepper = secrets.token_hex(16)
    (folder / "sealium.toml").write_text(settings(folder, port, pepper))
    server = RSAEncryptor.generate()
    (folder / "private.pem").write_bytes(server.export_private_key())
    public = server.export_public_key().decode()
    database = SQLiteDatabase(folder / "sealium.db")
    database.connect()
    storage = ActivationCodeStorage(database, code_hasher=lambda code: hash_activation_code(code, pepper))
    bodies = []
    for _ in range(count):
        code = secrets.token_hex(16)
        storage.create(ActivationCode(activation_code=code))
        request = ActivationRequest(code, fingerprint(), int(time.time()), secrets.token_hex(16))
        bodies.append(
            ClientKeyManager(public).build_encrypted_request(json.dumps(request.to_dict()).encode())
        )
    database.close()
    write_bodies(folder / "sealium.bodies", bodies)


if __name__ == "__main__":
    main()
