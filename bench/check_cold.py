"""`volact.check()` in a new process and in a warm one, beside the floor that no such check can go below.

The floor is a new interpreter that imports cryptography's ec and hashes, json, base64 and hashlib and verifies
one signature. The two are run in turn, so that a change of the machine's speed meets both.
"""

from __future__ import annotations

import compileall
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import volact

if TYPE_CHECKING:
    from collections.abc import Mapping

FLOOR = """
import base64, hashlib, json
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
point = bytes.fromhex({point!r})
key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
key.verify(bytes.fromhex({signature!r}), b"x" * 700, ec.ECDSA(hashes.SHA256()))
"""
CHECK = """
import volact
licence = volact.check({product!r}, root={root!r}, allow_lab=True)
assert licence.licensed, licence
"""


def floor_program() -> str:
    """The floor's program, with a fresh signature to verify."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return FLOOR.format(point=point.hex(), signature=key.sign(b"x" * 700, ec.ECDSA(hashes.SHA256())).hex())


def process_ms(program: str, environ: Mapping[str, str]) -> float:
    """One whole process, from its start to its end, in milliseconds."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=dict(environ), check=True)
    return 1000 * (time.perf_counter() - began)


def measure(product: str, root: str, environ: Mapping[str, str], times: int = 60) -> dict[str, float]:
    """Medians in milliseconds and the ratio, for an activated machine whose home and facts `environ` names."""
    # As an installed package is: pip compiles, a checkout may not (PYTHONDONTWRITEBYTECODE).
    compileall.compile_dir(Path(volact.__file__).parent, quiet=1)
    check, floor = CHECK.format(product=product, root=root), floor_program()
    for program in (check, floor):
        process_ms(program, environ)
    pairs = [(process_ms(check, environ), process_ms(floor, environ)) for _ in range(times)]
    cold = statistics.median(pair[0] for pair in pairs)
    lowest = statistics.median(pair[1] for pair in pairs)
    os.environ.update(environ)
    warm = []
    for _ in range(500):
        began = time.perf_counter()
        volact.check(product, root=root, allow_lab=True)
        warm.append(1000 * (time.perf_counter() - began))
    warm.sort()
    return {
        "cold_ms": round(cold, 2),
        "floor_ms": round(lowest, 2),
        "ratio": round(cold / lowest, 3),
        "warm_p50_ms": round(warm[250], 3),
        "warm_p99_ms": round(warm[495], 3),
    }
