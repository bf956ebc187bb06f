"""Every vector of tests/vectors against the verifier: what is good is taken, what is broken is refused, and
by the step that it names (PROTOCOL sections 1 to 3, 7; RELIABILITY G12, T19).
"""

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from vectors import make
from volact.protocol import documents, jws, matching, policy, status, trust
from volact.protocol.documents import Document
from volact.protocol.ids import Jwk
from volact.protocol.problems import DocumentRefused

FOLDER = Path(make.__file__).parent
VECTORS = [
    (path.stem, vector)
    for path in sorted(FOLDER.glob("*.json"))
    if path.stem != "signed"
    for vector in json.loads(path.read_text(encoding="ascii"))
]


def roots_of(verify: dict[str, Any]) -> trust.Roots:
    return trust.open_roots(verify["root"], verify["pin"], verify["roots"])


def run(verify: dict[str, Any], given: Any) -> None:
    """Do what a vector asks for; return if the input is good.

    Raises:
        DocumentRefused: if it is not.
    """
    kind = verify["as"]
    if kind == "root":
        trust.open_roots(given, verify["pin"], verify["roots"])
    elif kind in ("request", "checkin", "usage", "cil"):
        document = trust.open_self_keyed(given, kind).document
        if "pub" in verify:
            trust.check_publisher(document, verify["pub"], lab=verify["lab"])
        if "carried" in verify:
            documents.check_carried(document, proof=given.get("proof"), usage=given.get("usage"))
    elif kind == "key-proof":
        request = verify.get("request")
        key = Jwk.read(verify["key"])
        asked = trust.open_self_keyed(request, "request").document if request else None
        loaded = jws.load_key(key)
        proof = trust.open_signed(given, "key-proof", key.thumbprint(), loaded)
        matching.check_proof_fits(proof, asked, pub=verify["pub"], lab=verify["lab"])
    elif kind == "status-body":
        granted = trust.take_up(trust.verify(given["bundle"], "status", roots_of(verify)))
        body = given["body"].encode()
        status.check_body(granted.document, [body])
        list(status.read(body.splitlines(keepends=True)))
    else:
        run_bundle(verify, given)


def run_bundle(verify: dict[str, Any], given: Any) -> None:
    data = json.dumps(given).encode()
    bundle = trust.read_bundle(data.ljust(verify.get("padded_to", 0)))
    granted = trust.verify(bundle, verify["as"], roots_of(verify))
    if verify.get("when") == "stored":
        if not trust.still_stands(granted):
            raise DocumentRefused("a key of its chain is revoked")
    else:
        trust.take_up(granted)
    if verify["as"] == "product":
        policy.read(granted.document["pol"], granted.document["edition"])
    if "ask" in verify:
        matching.check_answer(granted.document, opened_ask(verify["ask"]))


def opened_ask(ask: dict[str, Any]) -> Document:
    jwk = Jwk.read(ask["jwk"])
    typ = jws.split(ask["token"]).typ
    name = typ.removeprefix("volact-").removesuffix("+jwt")
    return trust.open_signed(ask["token"], name, jwk.thumbprint(), jws.load_key(jwk))


STEP_OF = {
    **dict.fromkeys(("read_bundle", "_parts", "split"), 1),
    "Opening.take_apart": 2,
    "Opening.find_key": 3,
    "Opening.check_signature": 4,
    "Opening.read": 5,
    "check_publisher": 6,
    **dict.fromkeys(("open_roots", "with_later_roots", "_open_later_root"), 7),
    **dict.fromkeys(("verify", "_root_signed", "_issuer_signed", "_no_key_twice", "_introduced_key"), 8),
    **dict.fromkeys(("_check_granted", "check_proof_fits", "check_answer", "check_body", "run"), 9),
    "check_carried": 9,
    **dict.fromkeys(("take_up", "run_bundle"), 10),
}
"""Function -> the step of trust.py that it is; what it calls belongs to it."""


def step_of(error: DocumentRefused) -> int:
    """The step that refused: the innermost function on the stack that is one."""
    running = [frame.f_code.co_qualname for frame, _ in traceback.walk_tb(error.__traceback__)]
    if "_introduced_key" in running and "_open_later_root" in running:
        return 7
    return next(STEP_OF[name] for name in reversed(running) if name in STEP_OF)


@pytest.mark.parametrize(
    ("group", "vector"), VECTORS, ids=[f"{group}-{vector['name']}" for group, vector in VECTORS]
)
def test_vector(group: str, vector: dict[str, Any]) -> None:
    """Broken in one named way: refused by the named step, with one code. Good: taken."""
    expect = vector["expect"]
    if expect == "good":
        run(vector["verify"], vector["input"])
        return
    with pytest.raises(DocumentRefused) as caught:
        run(vector["verify"], vector["input"])
    assert caught.value.refusal.code == "document-refused"
    wanted = expect["detail_contains"].split("|")
    assert any(part in caught.value.refusal.detail for part in wanted), caught.value.refusal.detail
    assert step_of(caught.value) == expect["refused"]


def test_there_are_enough_and_their_names_are_unique() -> None:
    """Issue 2: at least 120 broken here; G12: 300 in the end, 0 accepted."""
    names = [vector["name"] for _, vector in VECTORS]
    assert len(names) == len(set(names))
    assert sum(vector["expect"] != "good" for _, vector in VECTORS) >= 300
    assert sum(vector["expect"] == "good" for _, vector in VECTORS) >= 60


def test_making_the_vectors_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """STYLE 7: made by a checked-in script; regenerated and compared."""
    make.write(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}
