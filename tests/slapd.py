"""A directory of the tests' own, as RIGS.md says: a real OpenLDAP `slapd` on loopback, in a folder of its own.

    with Slapd([Entry("cn=web1,ou=machines", "device", cn="web1")]) as directory:
        directory.plain == "ldap://127.0.0.1:PORT"

It serves LDAP, with StartTLS, and LDAPS. Tests that use one are marked `sockets`.
"""

import base64
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from nameservers import free_port
from programs import LOOPBACK, TIMEOUT, Program, installed, listens
from volact import certificate

BASE = "dc=corp,dc=test"
MACHINES = f"ou=machines,{BASE}"
ADMIN, READER, STRANGER = f"cn=admin,{BASE}", f"cn=reader,{BASE}", f"cn=stranger,{BASE}"
PASSWORD = "a password that is in no file of the test's"
_SCHEMA = ("core", "cosine", "inetorgperson", "nis", "msuser")
_CONF = """\
{schema}
pidfile {folder}/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile {folder}/tls/certificate.pem
TLSCertificateKeyFile {folder}/tls/key.pem
TLSVerifyClient never
sizelimit {size_limit}
database mdb
suffix "{base}"
directory {folder}/data
dbnosync
rootdn "{admin}"
rootpw "{password}"
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="{machines}" by dn.exact="{reader}" read by * none
access to * by * search
"""


class Entry:
    """An entry: its DN below the base, its object classes, and its attributes; a list for several values."""

    def __init__(self, place: str, classes: str, **attributes: str | bytes | Sequence[str]) -> None:
        self.place, self.classes, self.attributes = place, classes, attributes

    def ldif(self) -> str:
        lines = [f"dn:: {_base64(f'{self.place},{BASE}')}"]
        lines += [f"objectClass: {one}" for one in self.classes.split()]
        for name, found in self.attributes.items():
            values = [found] if isinstance(found, str | bytes) else found
            lines += [f"{name}:: {_base64(value)}" for value in values]
        return "\n".join(lines) + "\n\n"


def _base64(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


_PEOPLE = [
    Entry(name, "organizationalRole simpleSecurityObject", userPassword=PASSWORD)
    for name in ("cn=reader", "cn=stranger")
]


class Slapd(Program):
    """A real server; use as a context.

    A reader may see the machines, a stranger nothing, the administrator everything; PASSWORD is that of all three.
    """

    def __init__(self, entries: Sequence[Entry], size_limit: str = "unlimited") -> None:
        self._entries, self._size_limit = entries, size_limit

    def __enter__(self) -> Self:
        found = installed("slapd", "slapd")
        self.folder = Path(tempfile.mkdtemp(prefix="vldap"))
        try:
            # A copy: a desktop's AppArmor lets the installed program read its own folders only.
            self._program = str(shutil.copy(found, self.folder / "slapd"))
            self._write()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def plain(self) -> str:
        """Its address for LDAP, with or without StartTLS; its certificate is for this name."""
        return f"ldap://localhost:{self._port}"

    @property
    def secure(self) -> str:
        """Its address for LDAPS."""
        return f"ldaps://localhost:{self._secure_port}"

    @property
    def ca_file(self) -> Path:
        """The certificate that proves it."""
        return self.folder / "tls" / "certificate.pem"

    def _write(self) -> None:
        certificate.make(self.folder / "tls", LOOPBACK)
        (self.folder / "data").mkdir()
        (self.folder / "conf").write_text(
            _CONF.format(
                schema="\n".join(f"include /etc/ldap/schema/{name}.schema" for name in _SCHEMA),
                folder=self.folder,
                base=BASE,
                machines=MACHINES,
                admin=ADMIN,
                reader=READER,
                password=PASSWORD,
                size_limit=self._size_limit,
            )
        )
        top = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: corp\no: corp\n\n"]
        units = [Entry("ou=machines", "organizationalUnit")]
        entries = "".join(one.ldif() for one in [*units, *_PEOPLE, *self._entries])
        adding = [self._program, "-T", "add", "-q", "-f", str(self.folder / "conf")]
        done = subprocess.run(
            adding, input=top[0] + entries, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stderr

    def _start(self) -> None:
        self._port, self._secure_port = free_port(), free_port()
        listening = f"ldap://{LOOPBACK}:{self._port} ldaps://{LOOPBACK}:{self._secure_port}"
        words = [self._program, "-d", "0", "-f", str(self.folder / "conf"), "-h", listening]
        self.run(words, lambda: all(listens(port) for port in (self._port, self._secure_port)))
