"""VAMT: its use cases, one method each, the same for commands, API and pages (V6).

Each takes the person who asks first. What they may is decided in one place, `acting`, and so is what is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.vamt.access import Access
from volact.vamt.acquiring import Acquiring
from volact.vamt.acting import Office
from volact.vamt.acts import Acts
from volact.vamt.advising import Advising
from volact.vamt.applying import Applying
from volact.vamt.collection import Collecting
from volact.vamt.history import History
from volact.vamt.intake import Intake
from volact.vamt.keys import Keys
from volact.vamt.logins import Logins
from volact.vamt.machines import Machines
from volact.vamt.proxy import Proxy
from volact.vamt.publishers import Publishers
from volact.vamt.queueing import Queue
from volact.vamt.remote import Remote
from volact.vamt.schedules import Schedules
from volact.vamt.views import Groups, Views

if TYPE_CHECKING:
    from collections.abc import Callable

    from volact.clock import Clock
    from volact.signing import Signer
    from volact.vamt.store import Store


class Vamt:
    """The enterprise's management tool.

    Attributes:
        office: the store, the clock and the way to act, for use cases beside these.
        signer: VAMT's own key, which signs its computer lists; its thumbprint is VAMT's fingerprint.
        publishers: whose products it manages.
        machines, history: what it found, and what was done to each.
        groups, views: how they are sorted.
        logins: as whom they are asked.
        collecting: asking them.
        remote: telling one of them what slmgr can do.
        acts, queue, schedules: doing something to many of them, to those that are off now, and again and again.
        access: who may what, and who did what.
        proxy, intake: computer lists that go out, and that come in.
        acquiring, applying: asking the authority for them outside, and bringing what it said to machines inside.
        keys, advising: product keys, and which way of activating suits.
    """

    def __init__(
        self, store: Store, clock: Clock, signer: Signer, random_bytes: Callable[[int], bytes]
    ) -> None:
        """Work on `store` at the time of `clock`; ids and tokens are made of `random_bytes`."""
        self.office = Office(store, clock)
        self.signer = signer
        self.publishers = Publishers(self.office)
        self.machines = Machines(self.office, random_bytes)
        self.history = History(self.office)
        self.logins = Logins(self.office)
        self.collecting = Collecting(self.office, self.machines.new_id)
        self.remote = Remote(self.office, self.collecting)
        self.acts = Acts(self.office, self.collecting, self.machines.new_id)
        self.queue = Queue(self.office, self.collecting)
        self.schedules = Schedules(self.office, self.collecting, self.acts)
        self.groups = Groups(self.office)
        self.views = Views(self.office)
        self.access = Access(self.office, random_bytes)
        self.proxy = Proxy(self.office, signer, random_bytes)
        self.intake = Intake(self.office, signer.kid)
        self.acquiring = Acquiring(self.office)
        self.applying = Applying(self.office)
        self.keys = Keys(self.office, random_bytes)
        self.advising = Advising(self.office)
