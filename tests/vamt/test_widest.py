"""The longest texts that a machine may say fit the indices of both databases: it fails nobody's collection (F45)."""

import json
import random

from vamt.collecting.standins import product as row
from vamt.collecting.standins import status
from vamt.site import Site
from volact.vamt import records
from volact.vamt.collecting import answers, windows
from volact.vamt.estate import Estate
from volact.vamt.inventory import Report, Sighting
from volact.vamt.records import Installed
from world import NOW


def widest(characters: int = 300) -> str:
    """A text of four bytes a character that no database makes shorter."""
    chance = random.Random(characters)
    return "".join(chr(0x20000 + chance.randrange(0xA000)) for _ in range(characters))


def keep(site: Site, said: Report | object) -> Report:
    assert isinstance(said, Report)
    estate = Estate((), site.vamt.machines.new_id)
    with site.store.writing() as tx:
        mid = estate.see(Sighting("csv", "m"), NOW)
        assert mid
        placed = estate.report(mid, said, NOW, "ssh-ed25519 A")
        number = records.save(tx, estate, {})[placed.mid]
        installed = [Installed(one, "reported") for one in said.products]
        records.put_products(tx, {number: (estate[placed.mid], installed)}, NOW)
    return said


def test_of_volact(site: Site) -> None:
    name = ".".join(["a" * 63] * 3 + ["a" * 60])
    product = row(product="p" * 64, reason=widest(), host=widest(), partial_key="A" * 8)
    whole = status(name, product, system=widest(), hypervisor=widest(), platform=widest(), domain="")
    said = keep(site, answers.of_status(json.dumps(whole).encode()))
    assert len(said.products[0].host) > 250
    assert site.listed("reason~" + said.products[0].reason[:20]).page.total == 1


def test_of_windows(site: Site) -> None:
    texts = (
        "Name", "ID", "PartialProductKey", "ProductKeyChannel", "KeyManagementServiceMachine",
        "DiscoveredKeyManagementServiceMachineName",
    )  # fmt: skip
    whole = {
        "LicenseStatus": "1",
        "KeyManagementServicePort": "65535",
        **{name: widest(300 + at) for at, name in enumerate(texts)},
    }
    found = {
        windows.PRODUCTS: [whole, {**whole, "ID": widest(299)}],
        windows.SERVICE: [{"ClientMachineID": widest()}],
        windows.COMPUTER: [
            {"Name": "a" * 63, "Domain": widest(), "PartOfDomain": "TRUE", "Model": widest(), "Manufacturer": widest()}
        ],
        windows.SYSTEM: [{"Caption": widest(), "Version": widest()}],
    }  # fmt: skip
    said = keep(site, windows.report(found, NOW))
    assert len(said.products[1].product) > 240
    assert site.listed("key~" + said.products[0].channel[:20]).page.total == 2
