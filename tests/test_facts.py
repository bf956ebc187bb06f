"""What a machine shows, read from made-up sysfs trees and from this very machine (PROTOCOL section 5)."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from volact import facts
from volact.facts import Facts, described, facts_for, from_file, of_machine, parts_for
from volact.protocol.documents import FP_LENGTHS
from volact.protocol.problems import BrokenData

UUID = "4c4c4544-0042-3510-8053-b4c04f4e5231"
OS = "3d1219c7c4c5404aaa1f6d2a48adfda4"
CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 142
model name\t: a name
stepping\t: 12
flags\t\t: fpu vme{flags}

processor\t: 1
vendor_id\t: Other
"""


class Tree:
    """A root folder with the files of a Linux machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("sys/class/dmi/id/product_uuid", UUID + "\n")
        self.write("sys/class/dmi/id/board_serial", "/PF3ABC12/CNWS200\n")
        self.write("sys/class/dmi/id/sys_vendor", "Dell Inc.\n")
        self.write("etc/machine-id", OS + "\n")
        self.write("proc/cpuinfo", CPUINFO.format(flags=""))
        self.disk("sda", "8:0", parent="pci0000:00/0000:00:17.0/ata1", serial="S4EVNX0N123456")
        self.mounted("8:0", "/dev/sda")
        self.card("eth0", "pci0000:00/0000:00:1f.6", "a4:bb:6d:11:22:33")
        self.link("sys/class/net/lo", "sys/devices/virtual/net/lo")

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def link(self, name: str, target: str) -> None:
        path, to = self.root / name, self.root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        to.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(to, path.parent))

    def disk(self, name: str, number: str, *, parent: str, serial: str = "") -> str:
        device = f"sys/devices/{parent}/block/{name}"
        self.write(f"{device}/dev", number + "\n")
        if serial:
            self.write(f"{device}/device/serial", serial + "\n")
        self.link(f"sys/dev/block/{number}", device)
        self.link(f"sys/class/block/{name}", device)
        return device

    def mounted(self, number: str, source: str, *more: str) -> None:
        lines = [
            "21 1 0:5 / /proc rw - proc proc rw",
            f"22 1 {number} / / rw,relatime shared:1 - ext4 {source} rw",
        ]
        self.write("proc/self/mountinfo", "\n".join([*lines, *more]) + "\n")

    def card(self, name: str, bus: str, address: str, *, assigned: str = "0") -> None:
        device = f"sys/devices/{bus}/net/{name}"
        self.write(f"{device}/address", address + "\n")
        self.write(f"{device}/addr_assign_type", assigned + "\n")
        self.link(f"sys/class/net/{name}", device)

    def facts(self) -> Facts:
        facts._processors.clear()
        return of_machine(str(self.root))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_physical_machine_shows_six_parts(tree: Tree) -> None:
    found = tree.facts()
    assert found.values == {
        "uuid": UUID,
        "board": "/PF3ABC12/CNWS200",
        "disk": "S4EVNX0N123456",
        "os": OS,
        "net": "a4:bb:6d:11:22:33",
        "cpu": "GenuineIntel 6 142 12",
    }
    assert found[1:] == (False, "", False, (), "")


@pytest.mark.parametrize(
    ("part", "file", "value"),
    [
        ("board", "sys/class/dmi/id/board_serial", "To be filled by O.E.M."),
        ("board", "sys/class/dmi/id/board_serial", " Default   string "),
        ("board", "sys/class/dmi/id/board_serial", "0000000"),
        ("board", "sys/class/dmi/id/board_serial", "xxxx xxxx"),
        ("board", "sys/class/dmi/id/board_serial", ""),
        ("uuid", "sys/class/dmi/id/product_uuid", "03000200-0400-0500-0006-000700080009"),
        ("uuid", "sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000"),
        ("uuid", "sys/class/dmi/id/product_uuid", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"),
        ("uuid", "sys/class/dmi/id/product_uuid", "Not Settable"),
        ("os", "etc/machine-id", "uninitialized"),
        ("os", "etc/machine-id", ""),
        ("net", "sys/devices/pci0000:00/0000:00:1f.6/net/eth0/address", "00:00:00:00:00:00"),
        ("net", "sys/devices/pci0000:00/0000:00:1f.6/net/eth0/addr_assign_type", "1"),
        ("disk", "sys/devices/pci0000:00/0000:00:17.0/ata1/block/sda/device/serial", "QEMU HARDDISK"),
        ("cpu", "proc/cpuinfo", "processor : 0\nhardware : none\n"),
    ],
)
def test_a_value_that_others_may_show_is_absent(tree: Tree, part: str, file: str, value: str) -> None:
    tree.write(file, value)
    assert tree.facts().values.keys() == {"uuid", "board", "disk", "os", "net", "cpu"} - {part}


def test_every_generic_value_is_written_as_it_is_compared() -> None:
    """A line of the data file that no normalised value can equal would protect nobody."""
    data = facts._data()
    assert all(" ".join(text.split()).lower() == text for text in data["generic"])
    assert all(set(text) <= set("0123456789abcdef") and len(text) in (12, 32) for text in data["generic_ids"])
    words = [pair[0] for pair in data["hypervisors"] + data["hypervisors_when_flagged"]]
    assert all(word == word.lower() for word in words)


def test_the_first_card_by_bus_path_counts_and_virtual_ones_do_not(tree: Tree) -> None:
    tree.card("wlan0", "pci0000:00/0000:00:14.3", "10:20:30:40:50:60")
    tree.card("docker0", "virtual/net/x", "02:42:11:22:33:44")
    assert tree.facts().values["net"] == "10:20:30:40:50:60"


def test_the_disk_is_found_through_partition_encryption_volume_and_array(tree: Tree) -> None:
    parent = "pci0000:00/0000:00:1d.0/nvme/nvme0"
    device = tree.disk("nvme0n1", "259:0", parent=parent, serial="NVME-2")
    partition = f"{device}/nvme0n1p3"
    tree.write(f"{partition}/partition", "3\n")
    other = tree.disk("nvme9n1", "259:9", parent="pci0000:01/nvme/nvme9", serial="NVME-9")
    for name, below in (("dm-0", [partition, other]), ("dm-1", ["sys/devices/virtual/block/dm-0"])):
        for slave in below:
            tree.link(f"sys/devices/virtual/block/{name}/slaves/{Path(slave).name}", slave)
    tree.link("sys/dev/block/254:1", "sys/devices/virtual/block/dm-1")
    tree.mounted("254:1", "/dev/mapper/root")
    assert tree.facts().values["disk"] == "NVME-2"


def test_a_volume_without_a_number_is_found_by_its_source(tree: Tree) -> None:
    """btrfs: mountinfo says 0:27 and names the device."""
    tree.write("dev/sda", "")
    tree.mounted("0:27", "/dev/sda")
    assert tree.facts().values["disk"] == "S4EVNX0N123456"


def test_a_later_mount_hides_an_earlier_one(tree: Tree) -> None:
    tree.mounted("0:1", "none", "30 1 8:0 / / rw - ext4 /dev/sda rw")
    assert tree.facts().values["disk"] == "S4EVNX0N123456"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("sys/devices/pci0000:00/0000:00:18.0/block/sdb/serial", b"SERIAL-7"),
        (
            "sys/devices/pci0000:00/0000:00:18.0/block/sdb/device/vpd_pg80",
            b"\x00\x80\x00\x10        SERIAL-7",
        ),
        ("run/udev/data/b8:16", b"S:disk/by-id/x\nE:ID_SERIAL=Model_SERIAL-7\nE:ID_SERIAL_SHORT=SERIAL-7\n"),
    ],
)
def test_a_serial_number_is_found_wherever_the_kernel_or_udev_shows_it(
    tree: Tree, file: str, content: bytes
) -> None:
    tree.disk("sdb", "8:16", parent="pci0000:00/0000:00:18.0")
    tree.mounted("8:16", "/dev/sdb")
    assert "disk" not in tree.facts().values
    tree.write(file, content)
    assert tree.facts().values["disk"] == "SERIAL-7"


def test_a_machine_whose_root_is_no_disk_has_no_disk(tree: Tree) -> None:
    tree.mounted("0:40", "overlay")
    assert "disk" not in tree.facts().values
    (tree.root / "proc/self/mountinfo").unlink()
    assert "disk" not in tree.facts().values


def test_an_arm_processor_is_told_in_decimal(tree: Tree) -> None:
    text = "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n"
    tree.write("proc/cpuinfo", text)
    assert tree.facts().values["cpu"] == "65 8 3340 1"
    tree.write("proc/cpuinfo", text.replace("8\n", "AArch64\n", 1))
    assert tree.facts().values["cpu"] == "65 AArch64 3340 1"


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("QEMU", " hypervisor", (True, "qemu")),
        ("VMware, Inc.", "", (True, "vmware")),
        ("Amazon EC2", " hypervisor", (True, "kvm")),
        ("Amazon EC2", "", (False, "")),
        ("Nobody", " hypervisor", (True, "")),
        ("Dell Inc.", "", (False, "")),
    ],
)
def test_a_virtual_machine_says_so_and_on_which_hypervisor(
    tree: Tree, vendor: str, flags: str, expected: tuple[bool, str]
) -> None:
    tree.write("sys/class/dmi/id/sys_vendor", vendor)
    tree.write("proc/cpuinfo", CPUINFO.format(flags=flags))
    found = tree.facts()
    assert (found.virtual, found.hypervisor) == expected


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", ""),
        ("run/systemd/container", "lxc"),
        ("proc/self/cgroup", "0::/system.slice/docker-0123.scope\n"),
        ("proc/self/cgroup", "12:pids:/kubepods/besteffort/pod1\n"),
    ],
)
def test_a_container_is_known_by_its_engine_s_mark(tree: Tree, file: str, text: str) -> None:
    assert not tree.facts().container
    tree.write(file, text)
    assert tree.facts().container


def test_a_machine_without_firmware_data_is_no_container(tmp_path: Path) -> None:
    """Row 11: never by what is absent."""
    facts._processors.clear()
    assert of_machine(str(tmp_path)) == Facts({})


def test_parts_that_cannot_be_read_are_named_and_absent(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, flags: int) -> int:
        if path.endswith(("product_uuid", "board_serial", "vpd_pg80", "/address")):
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags)

    tree.disk("sdb", "8:16", parent="pci0000:00/0000:00:18.0")
    tree.mounted("8:16", "/dev/sdb")
    monkeypatch.setattr(os, "open", refuse)
    found = tree.facts()
    assert found.unreadable == ("uuid", "board")
    assert found.values.keys() == {"os", "cpu"}


def test_an_installation_id_that_cannot_be_read_is_absent_too(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: str, flags: int) -> int:
        if path.endswith("/etc/machine-id"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    found = tree.facts()
    assert found.unreadable == ("os",)
    assert "os" not in found.values


def test_an_attribute_that_fails_when_read_is_absent(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int, _size: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    assert tree.facts().values == {}


def test_this_machine_can_be_read_and_is_read_alike_twice() -> None:
    found = of_machine()
    assert found == of_machine()
    assert found.values == parts_for({}, lab=False)
    assert found.values.keys() <= FP_LENGTHS.keys()
    if Path("/.dockerenv").exists():
        assert found.container


def test_facts_from_a_file_count_in_a_laboratory_only(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text(
        json.dumps({"uuid": UUID, "hv": "host-7", "cpu": "To be filled by O.E.M.", "hypervisor": "kvm"})
    )
    environ = {"VOLACT_MACHINE_FACTS": str(path)}
    found = facts_for(environ, lab=True)
    assert found == Facts({"uuid": UUID, "hv": "host-7"}, virtual=True, hypervisor="kvm")
    assert parts_for(environ, lab=True) == found.values
    assert facts_for(environ, lab=False) == of_machine()
    assert parts_for(environ, lab=False) == of_machine().values


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"uuid": 7}', "uuid must be a text"),
        ('{"virtual": "yes"}', "virtual must be true or false"),
        ('{"uiud": "x"}', "no member 'uiud'"),
        ("[]", "no JSON object"),
        ("{", "no JSON"),
        (None, "no JSON"),
    ],
)
def test_a_malformed_facts_file_is_named_with_its_member(
    tmp_path: Path, text: str | None, named: str
) -> None:
    path = tmp_path / "facts.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BrokenData, match=named):
        from_file(str(path))


# --- what a machine says of itself, for who collects (V2) ------------------------------------------------------------


def of(tree: Tree, **facts: Any) -> dict[str, Any]:
    return described(tree.facts()._replace(**facts), str(tree.root))


def test_a_machine_is_described(tree: Tree) -> None:
    tree.write("etc/os-release", 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    found = of(tree)
    assert found == {
        "name": os.uname().nodename.lower().partition(".")[0],
        "domain": os.uname().nodename.lower().partition(".")[2],
        "system": "Debian GNU/Linux 12 (bookworm)",
        "platform": "linux",
        "virtual": False,
        "hypervisor": "",
        "container": False,
        "identity": found["identity"],
        "host_identity": None,
        "running_instances": None,
        "macs": ["a4bb6d112233"],
    }


def test_the_identity_is_the_digest_of_a_fixed_label_and_the_firmwares_uuid(tree: Tree) -> None:
    digits = UUID.replace("-", "").lower()
    text = base64.urlsafe_b64encode(hashlib.sha256(f"volact machine 1 uuid {digits}".encode()).digest())
    assert of(tree)["identity"] == text.decode().rstrip("=")


def test_without_a_uuid_and_in_a_container_it_is_the_systems_id(tree: Tree) -> None:
    text = base64.urlsafe_b64encode(hashlib.sha256(f"volact machine 1 os {OS}".encode()).digest())
    by_system = text.decode().rstrip("=")
    assert of(tree, container=True)["identity"] == by_system  # a container sees its host's firmware
    tree.write("sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n")
    assert of(tree)["identity"] == by_system
    tree.write("etc/machine-id", "uninitialized\n")
    assert of(tree)["identity"] is None


@pytest.mark.parametrize(
    ("name", "hosts", "wanted"),
    [
        ("Web1.Corp.Example", "127.0.1.1 web1.other.example web1\n", ("web1", "corp.example")),
        ("web1", "127.0.1.1 web1.other.example web1\n", ("web1", "")),
    ],
)
def test_a_laboratorys_name(tree: Tree, name: str, hosts: str, wanted: tuple[str, str]) -> None:
    tree.write("etc/hosts", hosts)
    found = of(tree, name=name)
    assert (found["name"], found["domain"]) == wanted


@pytest.mark.parametrize(
    ("hosts", "domain"),
    [
        ("127.0.0.1 localhost\n127.0.1.1\t{name}.corp.example {name}\n", "corp.example"),
        ("# 127.0.1.1 {name}.corp.example\n", ""),
        ("127.0.1.1 {name} # {name}.corp.example\n", ""),
        ("127.0.1.1 not{name}.corp.example\n", ""),
        ("", ""),
    ],
)
def test_the_domain_of_a_short_name_stands_in_hosts(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, hosts: str, domain: str
) -> None:
    tree.write("etc/hosts", hosts.format(name=os.uname().nodename.partition(".")[0]))
    assert of(tree)["domain"] == domain


@pytest.mark.parametrize("text", [None, "ID=debian\n", "PRETTY_NAME=\n"])
def test_a_system_without_a_name_is_named_by_its_kernel(tree: Tree, text: str | None) -> None:
    if text is not None:
        tree.write("etc/os-release", text)
    assert of(tree)["system"] == f"Linux {os.uname().release}"


def kvp(**pairs: str) -> bytes:
    """A pool of Hyper-V's key-value exchange: keys of 512 bytes, values of 2048."""
    return b"".join(
        key.encode().ljust(512, b"\0") + value.encode().ljust(2048, b"\0") for key, value in pairs.items()
    )


@pytest.mark.parametrize(
    ("pool", "wanted"),
    [
        (
            kvp(
                VirtualMachineName="web1", PhysicalHostName="HOST7", PhysicalHostNameFullyQualified="host7.x"
            ),
            "host7.x",
        ),
        (kvp(PhysicalHostName="HOST7"), "HOST7"),
        (kvp(HostName="host7.x"), "host7.x"),
        (kvp(VirtualMachineName="web1"), None),
        (kvp(HostName=""), None),
        (kvp(HostName="host7.x")[:-1], None),
        (b"", None),
    ],
)
def test_hyper_v_tells_its_guests_on_which_host_they_are(tree: Tree, pool: bytes, wanted: str | None) -> None:
    tree.write("var/lib/hyperv/.kvp_pool_3", pool)
    assert of(tree)["host_identity"] == wanted


def test_running_virtual_machines_are_counted_where_their_files_can_be_seen(tree: Tree) -> None:
    assert of(tree)["running_instances"] is None
    folder = tree.root / "run/libvirt/qemu"
    folder.mkdir(parents=True)
    assert of(tree)["running_instances"] == 0
    for name in ("driver.pid", "web1.pid", "web1.xml", "web2.pid", "web2.xml", "off.xml"):
        tree.write(f"run/libvirt/qemu/{name}", "1")
    assert of(tree)["running_instances"] == 2
    tree.write("run/qemu-server/100.pid", "1")
    tree.write("run/qemu-server/100.qmp", "")
    assert of(tree)["running_instances"] == 3


def test_cards_that_are_made_up_or_have_no_address_are_left_out(tree: Tree) -> None:
    tree.card("eth1", "pci0000:00/0000:00:1f.7", "A4:BB:6D:11:22:34", assigned="1")
    tree.card("eth2", "pci0000:00/0000:00:1f.8", "00:00:00:00:00:00")
    tree.card("veth0", "virtual", "a4:bb:6d:11:22:35")
    assert of(tree)["macs"] == ["a4bb6d112233", "a4bb6d112234"]
