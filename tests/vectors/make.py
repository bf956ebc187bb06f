"""Write tests/vectors/*.json: ``python tests/vectors/make.py [FOLDER]``. The same bytes every time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:  # run as a script
    sys.path.insert(0, str(HERE.parent))

from vectors import asks, chains, envelope, forge, payloads, returns, roots, windows  # noqa: E402 - after the path is set
from vectors.cases import CAD_PUBLISHER  # noqa: E402 - as above
from vectors.forge import JSON  # noqa: E402 - as above

DELEGATIONS = ("issuer", "status_delegation", "host_delegation")
KINDS: tuple[str, ...] = (
    "root",
    "product",
    "request",
    "proof",
    "remaining_proof",
    "confirmation",
    "receipt",
    "statement",
    "host",
)
KINDS += ("checkin", "lease", "status", "usage", "cil")


def groups() -> dict[str, list[JSON]]:
    """Group -> its vectors."""
    return {
        "good": [
            *roots.good_bundles(),
            *asks.good_asks(),
            *returns.good_returns(),
            *windows.good_windows(),
            *payloads.good_json(),
            *envelope.good_sizes(),
            *envelope.good_signatures(),
        ],
        "header": envelope.headers(),
        "form": envelope.forms(),
        "type": envelope.types(),
        "key": envelope.keys(),
        "signature": envelope.signatures(),
        "json": payloads.json_texts(),
        "claims": payloads.claims(),
        "ask": asks.asks(),
        "publisher": [*payloads.publishers(), *payloads.laboratory()],
        "root": [*roots.first_roots(), *roots.later_roots()],
        "chain": [*chains.chains(), *chains.narrowing()],
        "window": windows.windows(),
        "revocation": roots.revocations(),
        "proof": asks.proofs(),
        "answer": asks.answers(),
        "status": asks.status_bodies(),
        "return": returns.returns(),
    }


def signed() -> JSON:
    """One document of every kind with its claims, and the keys: for any JWS library."""
    texts = {name: getattr(CAD_PUBLISHER, name)() for name in (*DELEGATIONS, *KINDS)}
    texts["root_2"], texts["root_3"] = CAD_PUBLISHER.root(2), CAD_PUBLISHER.root(3)
    documents = [
        {"name": name, "token": text, "claims": forge.claims_of(text)} for name, text in texts.items()
    ]
    signers = {document["claims"]["iss"] for document in documents}
    return {"keys": {kid: forge.Key.made[kid].jwk for kid in sorted(signers)}, "documents": documents}


def write(folder: Path) -> None:
    """Write every file into `folder`."""
    files: dict[str, object] = {**groups(), "signed": signed()}
    for name, value in files.items():
        text = json.dumps(value, ensure_ascii=True, indent=1)
        (folder / f"{name}.json").write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
