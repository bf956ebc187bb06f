"""Where things are, and the settings of each role: one typed class a role (DESIGN section 5).

The first that is set wins: environment variable, row of the role's ``setting`` table, TOML file, default.
A name that nobody knows is an error with its line and the nearest name, never ignored.
"""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOME = "VOLACT_HOME"
SYSTEM_HOME = "/var/lib/volact"


def home_name(environ: "Mapping[str, str]" = os.environ) -> str:
    """The folder that holds everything: VOLACT_HOME, else the system's for root, else the user's data folder."""
    if environ.get(HOME):
        return environ[HOME]
    if os.geteuid() == 0:
        return SYSTEM_HOME
    data = environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(data, "volact")


def reading_homes(environ: "Mapping[str, str]" = os.environ) -> tuple[str, ...]:
    """Where `check()` looks, in this order: VOLACT_HOME alone if set, else the system's folder, then the user's."""
    own = home_name(environ)
    return (own,) if environ.get(HOME) or own == SYSTEM_HOME else (SYSTEM_HOME, own)


def home(environ: "Mapping[str, str]" = os.environ) -> "Path":
    """`home_name` as a path."""
    from pathlib import Path  # noqa: PLC0415 - check() does without, see docs/adr/0002

    return Path(home_name(environ))


class AuthoritySettings(NamedTuple):
    """Settings of the publisher's licensing site."""

    listen: str = "127.0.0.1:8443"
    database: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    key_rate: int = 600
    key_burst: int = 1000
    source_rate: int = 120
    source_burst: int = 300
    log_level: str = "info"


class KmshostSettings(NamedTuple):
    """Settings of the enterprise's KMS host."""

    listen: str = "0.0.0.0"  # noqa: S104 - the machines of a whole network call it
    port: int = 1688
    database: str = ""
    renewal_minutes: int = 0
    retry_minutes: int = 0
    log_level: str = "info"
    tls_certificate: str = ""
    tls_key: str = ""
    dns_publishing: bool = True
    dns_domains: str = ""
    dns_label: str = "_volact._tcp"
    dns_name: str = ""
    dns_addresses: str = ""
    dns_server: str = ""
    dns_key_file: str = ""
    ops_listen: str = "127.0.0.1:1690"
    source_rate: int = 600
    source_burst: int = 5000
    record_cap: int = 2_000_000
    networks: str = ""
    low_priority: bool = False


class VamtSettings(NamedTuple):
    """Settings of the enterprise's management tool."""

    listen: str = "127.0.0.1:1689"
    names: str = ""
    database: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    log_level: str = "info"
    at_once: int = 200
    machine_seconds: int = 30


class ClientSettings(NamedTuple):
    """Settings of the licensed machine; what slmgr sets for one product is not among them."""

    dns_label: str = "_volact._tcp"


HELP: "Mapping[str, Mapping[str, str]]" = {
    "client": {
        "dns_label": "under which label of a domain KMS hosts are looked for in DNS; hosts must publish under the same",
    },
    "vamt": {
        "listen": "address and port of the HTTPS API and pages, for this machine alone unless told otherwise",
        "names": "further names by which the service is called, with commas; it answers to its machine's name and addresses",
        "database": "URL of a PostgreSQL database; empty: SQLite in the role's folder",
        "tls_certificate": "PEM file of a certificate chain; empty: the self-made one",
        "tls_key": "PEM file of that certificate's private key",
        "log_level": "debug, info, warning or error",
        "at_once": "machines that are asked at the same time",
        "machine_seconds": "how long one machine may take to answer, in seconds",
    },
    "authority": {
        "listen": "address and port of the public HTTPS listener",
        "database": "URL of a PostgreSQL database; empty: SQLite in the role's folder",
        "tls_certificate": "PEM file of a certificate chain; empty: the self-made one",
        "tls_key": "PEM file of that certificate's private key",
        "key_rate": "activations a minute that one key may ask for in the long run; 0: no limit",
        "key_burst": "activations that one key may ask for at once",
        "source_rate": "activations a minute that one key may ask for from one source (an IPv4 address, an IPv6 /64)",
        "source_burst": "activations that one key may ask for at once from one source",
        "log_level": "debug, info, warning or error",
    },
    "kmshost": {
        "listen": "address of the public HTTPS listener",
        "port": "its TCP port; a running service moves to a new one",
        "database": "URL of a PostgreSQL database; empty: SQLite in the role's folder",
        "renewal_minutes": "how often machines renew, in minutes; 0: as each product's policy says",
        "retry_minutes": "how often machines try again after a refusal, in minutes; 0: as each product's policy says",
        "log_level": "debug, info, warning or error",
        "tls_certificate": "PEM file of a certificate chain; empty: the self-made one",
        "tls_key": "PEM file of that certificate's private key",
        "dns_publishing": "whether the host publishes itself in DNS, in the domains of dns_domains",
        "dns_domains": "domains to publish in: DOMAIN [PRIORITY [WEIGHT]], ...; priority 0 and weight 100 if not given",
        "dns_label": "the service's label in each domain",
        "dns_name": "the host's name to publish; empty: the machine's own; without a dot it is completed by the domain",
        "dns_addresses": "the host's addresses to publish, with commas; empty: those at which the machine is reached",
        "dns_server": "HOST[:PORT] of the DNS server that takes updates; empty: the primary that the zone names",
        "dns_key_file": "file of a TSIG key as `tsig-keygen` writes it; without one nothing is published",
        "ops_listen": "loopback address and port of /health and /metrics; empty: none",
        "source_rate": "new machines a minute that one source (an IPv4 address, an IPv6 /64) may bring in the long run; 0: no limit",
        "source_burst": "new machines that one source may bring at once",
        "record_cap": "most records that the host keeps, one for each machine and product; 0: no limit",
        "networks": "networks (192.0.2.0/24, 2001:db8::/32) whose machines alone are served, with commas; empty: all",
        "low_priority": "whether the service runs at a low priority (a nice value of 10); a running one changes it",
    },
}

ROLES: "Mapping[str, type]" = {
    "client": ClientSettings,
    "authority": AuthoritySettings,
    "kmshost": KmshostSettings,
    "vamt": VamtSettings,
}


class SettingInvalid(ValueError):
    """A setting is unknown or not of its type; the message names where it stands and what would be right."""


def load(
    role: str, folder: "Path", environ: "Mapping[str, str]", rows: "Mapping[str, str] | None" = None
) -> Any:  # noqa: ANN401
    """The settings of `role` (an instance of its class in `ROLES`), from `folder`/ROLE.toml and the others.

    Raises:
        SettingInvalid: naming the place, and the nearest name where a name is unknown.
    """
    kind = ROLES[role]
    values: dict[str, Any] = {}
    defaults: dict[str, Any] = kind._field_defaults  # type: ignore[attr-defined]
    values.update(_from_toml(folder / f"{role}.toml", defaults))
    for name, text in (rows or {}).items():
        if name in defaults:
            values[name] = _typed(name, text, defaults[name], f"the setting table of {role}")
    for name, default in defaults.items():
        variable = f"VOLACT_{role}_{name}".upper()
        if variable in environ:
            values[name] = _typed(name, environ[variable], default, variable)
    return kind(**values)


def source(
    role: str, folder: "Path", environ: "Mapping[str, str]", rows: "Mapping[str, str]", name: str
) -> str:
    """Which of the places a setting's value comes from: the variable's name, ``setting table``, the file's, ``default``.

    Raises:
        SettingInvalid: as `load`.
    """
    variable = f"VOLACT_{role}_{name}".upper()
    if variable in environ:
        return f"environment variable {variable}"
    if name in rows:
        return "setting table"
    path = folder / f"{role}.toml"
    return str(path) if name in _from_toml(path, ROLES[role]._field_defaults) else "default"  # type: ignore[attr-defined]


def _typed(name: str, value: object, default: object, where: str) -> Any:  # noqa: ANN401
    wanted = type(default)
    if isinstance(value, str) and wanted is int and (number := whole(value)) is not None:
        return number
    if isinstance(value, str) and wanted is bool and value in ("true", "false"):
        return value == "true"
    if type(value) is not wanted:
        raise SettingInvalid(f"{where}: {name} must be {_NAMES[wanted]}")
    return value


def whole(text: str) -> int | None:
    """The whole number that somebody typed, of at most 15 digits; None if it is none."""
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if is_number else None


_MOST_DIGITS = 15
"""Every number of so many digits fits wherever volact keeps one."""
_NAMES: "Mapping[type, str]" = {int: "a whole number", bool: "true or false", str: "a text"}


def _from_toml(path: "Path", defaults: "Mapping[str, object]") -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - check() reads no settings and must not pay for it

    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    try:
        members = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingInvalid(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise SettingInvalid(f"{path} is not UTF-8 text") from None
    except ValueError:
        raise SettingInvalid(
            f"{path} holds a number that is too long"
        ) from None  # tomllib leaves it to `int`
    values = {}
    for name, value in members.items():
        where = f"{path}, line {line_of(text, name)}"
        if name not in defaults:
            raise SettingInvalid(f"{where}: there is no setting {name!r}{nearest(name, defaults)}")
        values[name] = _typed(name, value, defaults[name], where)
    return values


def line_of(text: str, name: str, section: str = "") -> int:
    """The line, from 1, on which a TOML text sets `name` (inside ``[section]`` if given); 1 if it is not found."""
    inside = not section
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.split("#")[0].strip()
        names, equals, value = (part.strip() for part in bare.partition("="))
        if bare.startswith("["):
            header = bare.strip("[] ")
            if header == name and not section:
                return number
            inside = header == section
        elif equals and _is_set(names, value, name, section, inside=inside):
            return number
    return 1


def _is_set(names: str, value: str, name: str, section: str, *, inside: bool) -> bool:
    """Whether ``names = value`` sets `name`: plainly, by a dotted name, or in an inline table."""
    path = [part.strip().strip("\"'") for part in names.split(".")]
    if inside and path[0] == name:
        return True
    if not section or path[0] != section:
        return False
    return path[1:2] == [name] or any(part.split("=")[0].strip(" {") == name for part in value.split(","))


def nearest(name: str, known: "Mapping[str, object]") -> str:
    """`` (did you mean 'x'?)``, or nothing if no known name is near."""
    import difflib  # noqa: PLC0415 - only for an error

    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f"; known: {', '.join(sorted(known))}"
