"""DESIGN section 2: any JWT library must be able to verify our documents: three that we did not write do.

What they verify is the signature and the claims; the profile's stricter rules are `trust`'s.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jwt
import pytest
from joserfc import jws as joserfc_jws
from joserfc.jwk import ECKey

from vectors import make

HERE = Path(make.__file__).parent
ROOT = HERE.parent.parent
SIGNED = json.loads((HERE / "signed.json").read_text(encoding="ascii"))
KEYS: dict[str, dict[str, str]] = SIGNED["keys"]
DOCUMENTS: list[dict[str, Any]] = SIGNED["documents"]
NAMES = [document["name"] for document in DOCUMENTS]


def broken(document: dict[str, Any]) -> str:
    """The same token with one bit of its signature changed."""
    head, _, signature = document["token"].rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def read_by_pyjwt(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header = jwt.get_unverified_header(token)
    key = jwt.PyJWK(KEYS[header["kid"]], algorithm="ES256")
    # Times are judged by our own rules (a document is judged as of its signing), aud by ours as well.
    options = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
    return header, jwt.decode(token, key, algorithms=["ES256"], options=options)  # type: ignore[arg-type]  # a plain dict is taken


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_pyjwt(document: dict[str, Any]) -> None:
    header, claims = read_by_pyjwt(document["token"])
    assert claims == document["claims"]
    assert header.keys() == {"alg", "kid", "typ"}
    with pytest.raises(jwt.InvalidSignatureError):
        read_by_pyjwt(broken(document))


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_joserfc(document: dict[str, Any]) -> None:
    key = ECKey.import_key({**KEYS[document["claims"]["iss"]]})
    found = joserfc_jws.deserialize_compact(document["token"], key, algorithms=["ES256"])
    assert json.loads(found.payload) == document["claims"]
    assert key.thumbprint() == document["claims"]["iss"]
    with pytest.raises(Exception, match="bad_signature"):
        joserfc_jws.deserialize_compact(broken(document), key, algorithms=["ES256"])


def missing(reason: str) -> None:
    """In CI the library has to be there; elsewhere its absence is said."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def run_jose(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    node = shutil.which("node")
    if node is None:
        missing("node is not installed: npm's jose does not verify our documents here")
    if not (ROOT / "node_modules" / "jose").is_dir():
        missing("node_modules/jose is missing: `make test` installs it")
    done = subprocess.run(
        [str(node), str(HERE / "verify.mjs")],
        input=json.dumps({"keys": KEYS, "documents": documents}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_npm_jose() -> None:
    found = run_jose([*DOCUMENTS, *({"token": broken(document)} for document in DOCUMENTS)])
    assert len(found) == 2 * len(DOCUMENTS)
    for document, read in zip(DOCUMENTS, found, strict=False):
        assert read.get("claims") == document["claims"], read
        assert read["header"]["kid"] == document["claims"]["iss"]
    assert all("error" in read for read in found[len(DOCUMENTS) :])


def test_every_kind_of_document_is_among_them() -> None:
    kinds = {name.split("_")[0] for name in NAMES}
    assert kinds >= set(
        "root product request proof confirmation receipt statement host checkin lease status usage cil issuer".split()
    )
