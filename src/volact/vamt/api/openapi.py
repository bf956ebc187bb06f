"""The description of VAMT's API (OpenAPI 3.1): made from the routes and their types, not written beside them.

It is served at ``/v1/openapi.json``, and checked in as ``docs/openapi-vamt.json``; a test holds the two together.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.handlers import HTTPRouteHandler
    from litestar.types import Method

_BEARER = "token"


def _operation_id(handler: HTTPRouteHandler, _method: Method, _path: list[Any]) -> str:
    """The function's name: each route has one of its own."""
    return handler.handler_name


CONFIG = OpenAPIConfig(
    title="VAMT",
    version="1",
    summary="The enterprise's management tool of volact: machines, keys, activation, also behind an air gap.",
    description=(
        "The same use cases as the commands `volact vamt`. Every refusal is a problem document (RFC 9457) whose `code`"
        " is stable and whose `next` says what to do. A name in a path has its own slashes escaped (`%2F`). A change with"
        " an `Idempotency-Key` is done once, and answered again as it was answered, for a day."
    ),
    use_handler_docstrings=True,
    operation_id_creator=_operation_id,
    components=Components(
        security_schemes={
            _BEARER: SecurityScheme(
                type="http",
                scheme="bearer",
                description="A token of `volact vamt token add NAME --role ROLE`.",
            )
        }
    ),
    security=[{_BEARER: []}],
    render_plugins=[],
)
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "next"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "next": {"type": "string"},
    },
    "description": "A refusal (RFC 9457); some have further members, such as retry_after.",
}
_REPEAT = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,64}$"},
    "description": "A change with it is done once; the same request again is answered as the first was.",
}
_REFUSED = {
    "description": "A refusal.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Refusal"}}},
}
_FILE = {"type": "string", "format": "binary"}
TABLES = (
    "text/csv",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/json",
)
"""The kinds of a table that goes out."""
_CHANGES = ("post", "put", "delete")
_NOT_KEPT = ("make_token", "import_file")


def document(app: Litestar) -> dict[str, Any]:
    """The description of an app's routes."""
    made = app.openapi_schema.to_schema()
    made["components"]["schemas"]["Refusal"] = _PROBLEM
    for path in made["paths"].values():
        for method, operation in path.items():
            operation["responses"] = {
                status: one
                for status, one in operation["responses"].items()
                if int(status) < 400  # noqa: PLR2004
            }
            operation["responses"]["default"] = _REFUSED
            if method in _CHANGES and operation["operationId"] not in _NOT_KEPT:
                operation.setdefault("parameters", []).append(_REPEAT)
            if operation["operationId"] == "export_table":
                operation["responses"]["200"]["content"] = {kind: {"schema": _FILE} for kind in TABLES}
            if operation["operationId"] == "import_file":
                binary = {"schema": _FILE}
                operation["requestBody"] = {
                    "required": True,
                    "content": {"application/octet-stream": binary},
                }
    return dict(made)


def written(app: Litestar) -> bytes:
    """The description as it is served and checked in."""
    return (json.dumps(document(app), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
