"""What this machine is: the values of its fingerprint, virtual or not, in a container or not (PROTOCOL section 5).

Values are read as they are; `protocol.machine` hashes them. A placeholder, a generic value and a part that the
caller may not read are absent, since two machines could show the same. What counts as such is data
(``facts_data.json``), not code. Reading never fails and never writes: `volact.check()` does it at each call.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from volact.protocol.documents import FP_LENGTHS
from volact.protocol.ids import digest
from volact.protocol.machine import normalise
from volact.protocol.problems import BrokenData
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MACHINE_FACTS = "VOLACT_MACHINE_FACTS"
_DATA = os.path.join(os.path.dirname(__file__), "facts_data.json")
_HEX_DIGITS = {"uuid": 32, "os": 32, "net": 12}
_HEAD = 4096
_SERIAL_HEADER = 4
_DMI = "/sys/class/dmi/id/"
_FOR_ADMINISTRATORS = (
    ("uuid", _DMI + "product_uuid"),
    ("board", _DMI + "board_serial"),
    ("os", "/etc/machine-id"),
)
_DMI_VENDORS = ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
_X86 = ("vendor_id", "cpu family", "model", "stepping")
_ARM = ("CPU implementer", "CPU architecture", "CPU part", "CPU revision")

_IDENTITY = "volact machine 1"
_PLATFORMS = {"win32": "windows", "darwin": "macos"}
_KVP_POOL = "/var/lib/hyperv/.kvp_pool_3"
_KVP_KEY, _KVP_VALUE = 512, 2048
_KVP_HOST = (b"PhysicalHostNameFullyQualified", b"PhysicalHostName", b"HostName")
_MOST_POOL = 1 << 20
_INSTANCES = (("/run/libvirt/qemu", ".xml"), ("/run/qemu-server", ""))
"""Folders with a NAME.pid for each running machine, and what stands beside it: libvirt's, Proxmox VE's."""

_remembered: dict[str, Any] = {}
_processors: dict[str, tuple[str, bool]] = {}


class Facts(NamedTuple):
    """What a machine shows of itself.

    Attributes:
        values: present parts of the fingerprint and their values.
        virtual: whether it runs on a hypervisor.
        hypervisor: that one's name; empty if it is none or not known.
        container: whether this is a container, which sees its host's parts (row 11).
        unreadable: parts that exist and that only an administrator can read.
        name: the host's full name, if a laboratory's file gives one; empty: the system's own.
    """

    values: Mapping[str, str]
    virtual: bool = False
    hypervisor: str = ""
    container: bool = False
    unreadable: tuple[str, ...] = ()
    name: str = ""


def facts_for(environ: Mapping[str, str], *, lab: bool) -> Facts:
    """The facts that a publisher's programs go by: a laboratory's may come from a file, no other's can.

    Raises:
        BrokenData: if the file of a laboratory is not what it must be.
    """
    path = environ.get(MACHINE_FACTS)
    return from_file(path) if lab and path else of_machine()


def parts_for(environ: Mapping[str, str], *, lab: bool) -> Mapping[str, str]:
    """The values of `facts_for` alone, which is all that `check()` needs: a third of the reading."""
    path = environ.get(MACHINE_FACTS)
    return from_file(path).values if lab and path else _parts("", _cpu("")[0])[0]


def of_machine(root: str = "") -> Facts:
    """The facts of the Linux machine whose files stand under the folder `root` (tests), or of this one."""
    cpu, flagged = _cpu(root)
    values, unreadable = _parts(root, cpu)
    hypervisor, virtual = _hypervisor(root, flagged=flagged)
    return Facts(values, virtual, hypervisor, _in_container(root), unreadable)


def _parts(root: str, cpu: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The values of the parts that are present, and the names of those that this user may not read."""
    values = {"cpu": cpu}
    unreadable = []
    for name, file in _FOR_ADMINISTRATORS:
        try:
            values[name] = _read(root + file)
        except PermissionError:
            unreadable.append(name)
    values["disk"] = _system_disk(root)
    values["net"] = _first_card(root)
    return {name: value for name, value in values.items() if _is_own(name, value)}, tuple(unreadable)


def from_file(path: str) -> Facts:
    """The facts in a laboratory's file: the parts, and ``virtual``, ``hypervisor``, ``container``, ``name``.

    Raises:
        BrokenData: naming the member that is not what it must be.
    """
    try:
        with open(path, encoding="utf-8") as file:
            members = json.load(file)
    except (OSError, ValueError) as error:
        raise BrokenData(f"{MACHINE_FACTS}: {path} holds no JSON: {type(error).__name__}.") from None
    if not isinstance(members, dict):
        raise BrokenData(f"{MACHINE_FACTS}: {path} holds no JSON object.")
    kinds: dict[str, type] = {
        **dict.fromkeys(FP_LENGTHS, str),
        "virtual": bool,
        "hypervisor": str,
        "container": bool,
        "name": str,
    }
    for name, value in members.items():
        if name not in kinds:
            raise BrokenData(
                f"{MACHINE_FACTS}: {path}: there is no member {name!r}; known: {', '.join(kinds)}."
            )
        if type(value) is not kinds[name]:
            wanted = "a text" if kinds[name] is str else "true or false"
            raise BrokenData(f"{MACHINE_FACTS}: {path}: {name} must be {wanted}.")
    values = {name: members[name] for name in FP_LENGTHS if _is_own(name, members.get(name, ""))}
    hypervisor = members.get("hypervisor", "")
    return Facts(
        values,
        members.get("virtual", bool(hypervisor)),
        hypervisor,
        members.get("container", False),
        name=members.get("name", ""),
    )


def described(facts: Facts, root: str = "") -> dict[str, Any]:
    """What ``client status --json`` says of the machine itself, as ``machine`` (V2): for who collects, not for a grant.

    Nothing here proves anything. What is not known is empty or None, and no name server is asked for the domain.
    """
    name, _, domain = (facts.name or os.uname().nodename).lower().partition(".")
    return {
        "name": name,
        "domain": domain or ("" if facts.name else _domain(root, name)),
        "system": _system(root),
        "platform": _PLATFORMS.get(sys.platform, sys.platform),
        "virtual": facts.virtual,
        "hypervisor": facts.hypervisor,
        "container": facts.container,
        "identity": _identity(facts),
        "host_identity": _host_identity(root),
        "running_instances": _running_instances(root),
        "macs": _macs(root),
    }


def _identity(facts: Facts) -> str | None:
    """Which machine this is, whoever's products it has; a container sees its host's firmware, so that is not its own."""
    for part in ("os",) if facts.container else ("uuid", "os"):
        value = facts.values.get(part)
        if value:
            return digest(f"{_IDENTITY} {part} {normalise(part, value)}".encode())
    return None


def _domain(root: str, name: str) -> str:
    """The domain that ``/etc/hosts`` gives the machine's name (hosts(5): the full name stands first); else empty."""
    for line in _lines(root + "/etc/hosts"):
        for word in line.partition("#")[0].lower().split()[1:]:
            if word.startswith(name + "."):
                return word[len(name) + 1 :]
    return ""


def _system(root: str) -> str:
    """The operating system's name and version for people (os-release(5)); the kernel's where it has none."""
    for line in _lines(root + "/etc/os-release"):
        key, _, value = line.strip().partition("=")
        if key == "PRETTY_NAME" and value:
            return value.strip("\"'")
    kernel = os.uname()
    return f"{kernel.sysname} {kernel.release}"


def _host_identity(root: str) -> str | None:
    """The name of the machine that this guest runs on, where the hypervisor tells its guests (Hyper-V: pool 3)."""
    try:
        with open(root + _KVP_POOL, "rb") as file:
            pool = file.read(_MOST_POOL)
    except OSError:
        return None
    found = {}
    for begin in range(0, len(pool) - _KVP_KEY - _KVP_VALUE + 1, _KVP_KEY + _KVP_VALUE):
        key, value = pool[begin:][:_KVP_KEY], pool[begin + _KVP_KEY :][:_KVP_VALUE]
        found[key.partition(b"\0")[0]] = value.partition(b"\0")[0].decode("utf-8", "replace")
    return next((found[name] for name in _KVP_HOST if found.get(name)), None)


def _running_instances(root: str) -> int | None:
    """How many virtual machines run here, by the files of who starts them; None if no such folder can be listed."""
    count = None
    for folder, beside in _INSTANCES:
        try:
            names = os.listdir(root + folder)
        except OSError:
            continue
        running = [name for name in names if name.endswith(".pid")]
        if beside:  # a daemon's own .pid has none
            running = [name for name in running if name.removesuffix(".pid") + beside in names]
        count = (count or 0) + len(running)
    return count


def _macs(root: str) -> list[str]:
    """Addresses of the cards, virtual ones of this system's own making left out: 12 hex digits each."""
    folder = root + "/sys/class/net/"
    cards = [name for name in _names(folder) if "/virtual/" not in _target(folder + name)]
    found = {normalise("net", _try_read(f"{folder}{name}/address")) for name in cards}
    return sorted(one for one in found if len(one) == _HEX_DIGITS["net"] and len(set(one)) > 1)


def _is_own(name: str, value: str) -> bool:
    """Whether a value can tell this machine from others: not empty, a placeholder, or one that many show."""
    text = normalise(name, value)
    if name in _HEX_DIGITS:
        return len(text) == _HEX_DIGITS[name] and len(set(text)) > 1 and text not in _data()["generic_ids"]
    return len(set(text.replace(" ", ""))) > 1 and text not in _data()["generic"]


def _data() -> dict[str, Any]:
    if not _remembered:
        with open(_DATA, encoding="utf-8") as file:
            _remembered.update(json.load(file))
    return _remembered


def _bytes(path: str) -> bytes:
    """The head of a small file; empty if there is none.

    Raises:
        PermissionError: if it exists and this user may not read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return b""
    try:
        return os.read(descriptor, _HEAD)
    except OSError:
        return b""  # some attributes of sysfs exist and cannot be read
    finally:
        os.close(descriptor)


def _read(path: str) -> str:
    return _bytes(path).decode("utf-8", "replace").strip("\0 \t\r\n")


def _try_read(path: str) -> str:
    try:
        return _read(path)
    except PermissionError:
        return ""


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _target(link: str) -> str:
    """Where a link of sysfs leads; empty if there is none. One look, where `os.path.realpath` takes a dozen."""
    try:
        return os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
    except OSError:
        return ""


def _system_disk(root: str) -> str:
    """Serial of the disk that holds the system volume; of several, of the first in device order that has one."""
    for disk in sorted(_disks_under(_volume(root))):
        serial = _serial(root, disk)
        if serial:
            return serial
    return ""


def _volume(root: str) -> str:
    """The sysfs folder of the block device that is mounted on ``/``; empty if there is none."""
    if not root:
        device = os.stat("/").st_dev
        if os.major(device):
            return _target(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    number, source = "", ""
    for line in _lines(root + "/proc/self/mountinfo"):
        mount, _, origin = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) > 4 and fields[4] == "/" and " " in origin:  # noqa: PLR2004 - proc(5): the mount point
            number, source = fields[2], origin.split(" ")[1]  # a later mount hides an earlier one
    if number.startswith("0:"):  # btrfs and its like have no device number; their source names the device
        return _target(f"{root}/sys/class/block/{os.path.basename(os.path.realpath(root + source))}")
    return _target(f"{root}/sys/dev/block/{number}")


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            yield from file
    except OSError:
        return


def _disks_under(device: str) -> set[str]:
    """The whole disks below a partition, an LVM or encrypted volume, or an array."""
    if not device:
        return set()
    if os.path.exists(device + "/partition"):
        return _disks_under(os.path.dirname(device))
    below = [_target(f"{device}/slaves/{name}") for name in _names(device + "/slaves")]
    return {disk for slave in below for disk in _disks_under(slave)} if below else {device}


def _serial(root: str, disk: str) -> str:
    serial = _try_read(disk + "/device/serial") or _try_read(disk + "/serial") or _scsi_serial(disk)
    if serial:
        return serial
    for line in _lines(f"{root}/run/udev/data/b{_try_read(disk + '/dev')}"):
        if line.startswith("E:ID_SERIAL_SHORT="):
            return line.partition("=")[2].strip()
    return ""


def _scsi_serial(disk: str) -> str:
    """The unit serial number page of a SCSI or SATA disk: four bytes of header, then the text."""
    try:
        return _bytes(disk + "/device/vpd_pg80")[_SERIAL_HEADER:].decode("ascii", "replace").strip("\0 ")
    except PermissionError:
        return ""


def _first_card(root: str) -> str:
    """Permanent address of the physical card with the lowest bus path; empty if that card does not tell it."""
    folder = root + "/sys/class/net/"
    cards = [(_target(folder + name), name) for name in _names(folder)]
    physical = [card for card in cards if card[0] and "/virtual/" not in card[0]]
    if not physical:
        return ""
    card = folder + min(physical)[1]
    return _try_read(card + "/address") if _try_read(card + "/addr_assign_type") == "0" else ""


def _cpu(root: str) -> tuple[str, bool]:
    """Vendor, family, model and stepping of the first processor; and whether it says that it is virtual.

    Read once a process: it cannot be exchanged under a running one, and is slow to tell.
    """
    if root in _processors:
        return _processors[root]
    found: dict[str, str] = {}
    for line in _try_read(root + "/proc/cpuinfo").split("\n"):
        name, _, value = line.partition(":")
        if not name.strip() and found:
            break  # the first processor is told
        found[name.strip()] = value.strip()
    parts = [found[name] for name in _X86 if name in found] or [
        _decimal(found[name]) for name in _ARM if name in found
    ]
    text = " ".join(parts) if len(parts) == len(_X86) else ""
    _processors[root] = (text, "hypervisor" in found.get("flags", "").split())
    return _processors[root]


def _decimal(text: str) -> str:
    try:
        return str(int(text, 0))
    except ValueError:
        return text


def _hypervisor(root: str, *, flagged: bool) -> tuple[str, bool]:
    """Name of the hypervisor, and whether there is one: the processor's flag or the firmware's vendor says so."""
    firmware = " ".join(_try_read(root + _DMI + name) for name in _DMI_VENDORS).lower()
    firmware += " " + _try_read(root + "/sys/hypervisor/type").lower()
    for word, name in _data()["hypervisors"]:
        if word in firmware:
            return name, True
    if flagged:
        for word, name in _data()["hypervisors_when_flagged"]:
            if word in firmware:
                return name, True
    return "", flagged


def _in_container(root: str) -> bool:
    """By an engine's marker file or control group; never by what is absent (row 11)."""
    if any(os.path.exists(root + name) for name in _data()["container_files"]):
        return True
    groups = _try_read(root + "/proc/self/cgroup")
    return any(group in groups for group in _data()["container_groups"])
