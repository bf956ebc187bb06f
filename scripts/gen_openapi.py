"""Prints the OpenAPI description of VAMT's API, which docs/openapi-vamt.json holds: ``gen_openapi.py > docs/openapi-vamt.json``."""

import sys

from volact.vamt.api import app as api
from volact.vamt.api import openapi
from volact.vamt.api.desk import ApiDesk


def _nobody() -> ApiDesk:
    raise RuntimeError("nobody calls a route here")


sys.stdout.buffer.write(openapi.written(api.litestar(_nobody)))
