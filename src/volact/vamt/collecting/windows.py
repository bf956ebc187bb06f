"""What a Windows machine reports of Windows' own licences, read as a report. Pure (V2).

- Documented properties of WMI classes are read, and nothing is written: SoftwareLicensingProduct and
  SoftwareLicensingService for licences; Win32_ComputerSystem, Win32_OperatingSystem and Win32_ComputerSystemProduct for
  the machine.
- States 0 to 6 are Windows' own, which are the names of rule E too. All of it is "reported", and for looking at only.
- This was written from the documentation and tried against a stand-in; a real Windows has not been asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.protocol import ids, machine
from volact.protocol.documents import STATE_NAMES
from volact.protocol.problems import Refusal, printable
from volact.vamt.discovering import names
from volact.vamt.inventory import WINDOWS, Product, Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_ROWS = 1000
PRODUCTS, SERVICE = "SoftwareLicensingProduct", "SoftwareLicensingService"
COMPUTER, SYSTEM, FIRMWARE = "Win32_ComputerSystem", "Win32_OperatingSystem", "Win32_ComputerSystemProduct"
QUERIES: Mapping[str, str] = {
    name: " ".join(("SELECT * FROM", name, *which))
    for name, *which in (
        (PRODUCTS, "WHERE PartialProductKey IS NOT NULL OR LicenseStatus <> 0"),
        (SERVICE,),
        (COMPUTER,),
        (SYSTEM,),
        (FIRMWARE,),
    )
}
"""What is asked, by class: of products only those with a key or a state; there are hundreds of others."""
NEEDED = (PRODUCTS, SERVICE)
"""Without these there is no report; the others are left out where the account may not read them."""
_TEXT = 120
"""Characters of a text: several of them, four bytes each, fit a row of a PostgreSQL index, which has 2,700 bytes."""
_MINUTE = 60
_FOREVER = 10_000_000
"""Minutes of grace, 19 years, beyond which a number is none."""
_IDENTITY = "volact machine 1 uuid"
"""As `volact.facts` has it: the same machine has one identity, whatever it runs."""
_HYPERVISORS = (
    ("virtual machine", "hyper-v"),
    ("vmware", "vmware"),
    ("virtualbox", "virtualbox"),
    ("kvm", "kvm"),
    ("qemu", "qemu"),
    ("xen", "xen"),
)


def report(found: Mapping[str, Sequence[Mapping[str, str]]], now: int) -> Report | Refusal:
    """The report in the rows of each class, at time `now`, seconds UTC."""
    service = _first(found, SERVICE)
    computer, system, firmware = (_first(found, name) for name in (COMPUTER, SYSTEM, FIRMWARE))
    if len(found.get(PRODUCTS, ())) > MOST_ROWS:
        return Refusal("answer-nonsense", f"It reports more than {MOST_ROWS} products.")
    products: dict[str, Product] = {}
    for row in found.get(PRODUCTS, ()):
        product = _product(row, service, now)
        if product is None:
            return Refusal("answer-nonsense", "It reports a product without a name, or in no known state.")
        name = product.product
        if name in products:
            name = f"{name} ({_text(row, 'ID')})"
        if name in products:
            return Refusal("answer-nonsense", f"It reports {name} twice.")
        products[name] = product._replace(product=name)
    host = names.host(_text(computer, "Name")) or names.Host("")
    is_joined = _text(computer, "PartOfDomain").lower() == "true"
    maker = f"{_text(computer, 'Manufacturer')} {_text(computer, 'Model')}".lower()
    hypervisor = next((name for word, name in _HYPERVISORS if word in maker), "")
    return Report(
        name=host.name,
        domain=_domain(_text(computer, "Domain")) if is_joined else "",
        platform="windows",
        system=f"{_text(system, 'Caption')} {_text(system, 'Version')}".strip(),
        identity=_identity(_text(firmware, "UUID")),
        virtual=bool(hypervisor),
        hypervisor=hypervisor,
        products=tuple(products.values()),
    )


def _domain(text: str) -> str:
    """A domain in small letters; empty if the text is none, for machines are called by it."""
    found = names.host(text)
    return ".".join(filter(None, found)) if found else ""


def _product(row: Mapping[str, str], service: Mapping[str, str], now: int) -> Product | None:
    name = _text(row, "Name") or _text(row, "ID")
    state = _number(row, "LicenseStatus", len(STATE_NAMES) - 1)
    if not name or state is None:
        return None
    grace = _number(row, "GracePeriodRemaining", _FOREVER)
    reason = _number(row, "LicenseStatusReason", 2**32 - 1)
    return Product(
        WINDOWS,
        name,
        state,
        cmid=_text(service, "ClientMachineID"),
        channel=_text(row, "ProductKeyChannel"),
        partial_key=_text(row, "PartialProductKey"),
        expires=now + grace * _MINUTE if grace else None,
        host=_host(row),
        reason="" if reason is None else f"0x{reason:08X}",
    )


def _host(row: Mapping[str, str]) -> str:
    """The KMS host that was set, else the one that was found."""
    for name, port in (
        ("KeyManagementServiceMachine", "KeyManagementServicePort"),
        ("DiscoveredKeyManagementServiceMachineName", "DiscoveredKeyManagementServiceMachinePort"),
    ):
        if _text(row, name):
            number = _number(row, port, 65_535)
            return f"{_text(row, name)}:{number}" if number else _text(row, name)
    return ""


def _identity(uuid: str) -> str:
    """As a volact client on the machine would say it; empty for a placeholder."""
    digits = machine.normalise("uuid", uuid)
    is_own = len(digits) == 32 and len(set(digits)) > 2  # noqa: PLR2004 - a UUID's digits; 0s and fs are a placeholder
    return ids.digest(f"{_IDENTITY} {digits}".encode()) if is_own else ""


def _first(found: Mapping[str, Sequence[Mapping[str, str]]], name: str) -> Mapping[str, str]:
    return next(iter(found.get(name, ())), {})


def _text(row: Mapping[str, str], name: str) -> str:
    return printable(row.get(name, "").strip()[:_TEXT])


def _number(row: Mapping[str, str], name: str, most: int) -> int | None:
    """A whole number up to `most`; None if there is none. A negative one is what .NET makes of an unsigned number."""
    text = _text(row, name)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(most))):
        return None
    number = int(text) % 2**32
    return number if number <= most else None
