"""The codes of every refusal, but for VAMT's: one sentence, what to do next (RULES E). `problems.PROBLEMS` is all of them.

The list is public API and append-only: a code is never renamed, reused or removed.
"""

from __future__ import annotations

from volact.protocol.values import NamedTuple


class Problem(NamedTuple):
    """One entry of the list.

    Attributes:
        status: HTTP status with which an API answers it.
        sentence: what happened, for people.
        next_step: what the person who reads it can do.
    """

    status: int
    sentence: str
    next_step: str


CODES: dict[str, Problem] = {
    # documents and requests
    "document-refused": Problem(
        400,
        "The document is not valid here.",
        "Fetch it again from where it came from; if it is refused again, report the detail to the publisher.",
    ),
    "request-malformed": Problem(
        400, "The request body is not what this address takes.", "Send the JSON that the documentation gives."
    ),
    "body-too-large": Problem(
        413, "The request body is larger than allowed.", "Send at most 100 requests at once."
    ),
    "not-found": Problem(
        404, "There is nothing at this address.", "See the list of addresses in the documentation."
    ),
    "method-not-allowed": Problem(
        405, "This address does not take this method.", "Use the documented method."
    ),
    "request-id-reused": Problem(
        409,
        "This request id was used before with other content.",
        "Make a new request; if you did not reuse an id, report it.",
    ),
    "too-many-requests": Problem(
        429, "Too many requests for this key or from this address.", "Wait as long as retry_after says."
    ),
    "storage-unavailable": Problem(
        503,
        "The store cannot be used now; nothing was counted or changed.",
        "Free disk space or bring the database back; the same request can then be sent again.",
    ),
    "busy": Problem(503, "The service is busy or stopping.", "Send the same request again a little later."),
    "authority-expired": Problem(
        503,
        "The authority's working key is past its end, so it signs nothing.",
        "The publisher renews its delegation with the root key; the same request can then be sent again.",
    ),
    "internal": Problem(
        500,
        "The service failed in a way it did not expect.",
        "Look in its log under the given correlation id.",
    ),
    # keys (M7)
    "key-mistyped": Problem(
        422,
        "The product key is mistyped.",
        "Compare the named group of the key with the original and enter it again.",
    ),
    "key-wrong-kind": Problem(
        422,
        "This kind of key does not belong here.",
        "MAK and retail keys: `volact client install-key` on a machine. KMS host keys: `volact kmshost install-key`.",
    ),
    "key-wrong-product": Problem(
        422,
        "The key is for another product.",
        "Install the key of this product, or name the product it is for.",
    ),
    "key-unknown": Problem(
        422,
        "This publisher's authority does not know the key.",
        "Check that the key came from this publisher and for this product.",
    ),
    "key-blocked": Problem(
        403, "The publisher has blocked the key.", "Ask the publisher for a replacement key."
    ),
    "no-activations-left": Problem(
        403,
        "All activations of the key are used.",
        "Retire machines that no longer need it, or ask the publisher for more; then try again.",
    ),
    "machine-not-entitled": Problem(
        403,
        "The key, or the KMS host, is for other machines or networks.",
        "A key: use it where it was issued for, or ask the publisher to add this machine. A KMS host: its administrator adds the machine's network to `networks`.",
    ),
    # machines (PROTOCOL section 5)
    "machine-blocked": Problem(
        403,
        "The publisher has blocked this machine's activation.",
        "Ask the publisher why, and for a new activation.",
    ),
    "reactivated-too-often": Problem(
        403,
        "This hardware was set up anew and activated again too often in a year.",
        "Wait until the oldest of these is a year old, or ask the publisher.",
    ),
    "moved-too-often": Problem(
        403,
        "This activation has moved to changed hardware too often in a year.",
        "Wait until the last move is a year old, or ask the publisher.",
    ),
    "identity-cloned": Problem(
        409,
        "Another machine uses this machine's identity: one of them is a copy.",
        "Nothing: the client makes itself a new identity and asks again.",
    ),
    "machine-is-container": Problem(
        403,
        "A container sees the parts of its host and has no identity of its own.",
        "Activate the machine that runs the container.",
    ),
    "activation-returned": Problem(
        410, "This activation was given back.", "Activate again; it is counted as a new activation."
    ),
    "nothing-to-return": Problem(
        409,
        "There is no activation here that this machine could give back.",
        "See `volact client status`; a machine that was set up anew activates first, which is not counted.",
    ),
    "confirmation-superseded": Problem(
        409,
        "The return names a confirmation that is not the newest of its activation.",
        "Activate again, which is not counted, then give the activation back.",
    ),
    "taken-over-recently": Problem(
        403,
        "This activation went to a machine that was set up anew not long ago, so it cannot be given back yet.",
        "Wait as long as retry_after says; until then the machine stays activated, or activates again uncounted.",
    ),
    "returned-too-soon": Problem(
        403,
        "This machine gave an activation of this key back not long ago.",
        "Wait as long as retry_after says; until then the machine stays activated, or activates again uncounted.",
    ),
    "returns-used-up": Problem(
        403,
        "As many activations of this key were given back in a year as may be.",
        "Wait as long as retry_after says, or ask the publisher for more activations.",
    ),
    "other-machine": Problem(
        422, "The confirmation is for another machine.", "Apply it on the machine whose request it answers."
    ),
    "machine-unidentified": Problem(
        403,
        "Nothing of this machine's hardware or system could be read.",
        "Run the command as an administrator; see `volact client status` for the parts it sees.",
    ),
    # the client's own
    "product-not-installed": Problem(
        404,
        "The product's activation file is not installed on this machine.",
        "Run `volact client install FILE --root ROOT`.",
    ),
    "product-ambiguous": Problem(
        422, "Several products are installed.", "Name the product, as the last argument or with --product."
    ),
    "product-unknown": Problem(
        404, "The publisher has no such product.", "See `volact authority product list`."
    ),
    "no-key-installed": Problem(
        409,
        "The product has no key.",
        "On a machine: `volact client install-key KEY`; on a KMS host: `volact kmshost install-key KEY`.",
    ),
    "no-request-pending": Problem(
        409, "There is no request that this answer could belong to.", "Write one with `slmgr /dti FILE`."
    ),
    "root-mismatch": Problem(
        422,
        "The file is not from the publisher whose root was given.",
        "Compare the root with the one that the publisher gives out; do not install the file if they differ.",
    ),
    "in-use": Problem(
        409, "Another volact command is at work here.", "Wait until it has ended, then repeat yours."
    ),
    "rearms-used-up": Problem(
        403, "The grace period was reset as often as the product allows.", "Activate the product."
    ),
    "lab-publisher": Problem(
        403, "The grant is from a laboratory publisher.", "Use a real publisher's product file."
    ),
    "not-a-laboratory": Problem(
        422,
        "Machine facts and clocks from files are taken only under a laboratory publisher.",
        "Unset VOLACT_MACHINE_FACTS and VOLACT_LAB_CLOCK.",
    ),
    # the KMS host's (K5, K10; PROTOCOL sections 5, 6 and 8)
    "count-insufficient": Problem(
        403,
        "The KMS host does not count enough machines yet.",
        "Nothing: the client tries again by itself; more machines that call raise the count.",
    ),
    "host-not-activated": Problem(
        503,
        "This KMS host is not activated.",
        "Activate it: `volact kmshost install-key KEY`, then `volact kmshost activate`.",
    ),
    "host-blocked": Problem(
        403,
        "The publisher has blocked this KMS host.",
        "Ask the publisher why; until it is unblocked, machines are activated by another host.",
    ),
    "host-full": Problem(
        503,
        "The KMS host keeps as many machines as it may, and all of them are in use.",
        "Ask the host's administrator to raise `record_cap`, or for another host.",
    ),
    "product-not-served": Problem(
        403,
        "This KMS host does not serve the product.",
        "Use a host that was activated for it, or extend the host's delegation: `volact kmshost extend`.",
    ),
    "host-clock-wrong": Problem(
        503,
        "The KMS host's clock is wrong or its delegation is past its end, so it signs nothing.",
        "Set the host's clock; if it is right, extend the delegation: `volact kmshost extend`.",
    ),
    "nonce-refused": Problem(
        409,
        "The nonce is missing, too old, or another host's.",
        "Fetch a fresh one from this host and ask again.",
    ),
    # reaching others
    "host-not-found": Problem(
        404,
        "No KMS host is known for the product.",
        "Check the name servers, if they could not be asked; else publish a host in DNS (`volact kmshost publish`), or set one with `slmgr /skms NAME[:PORT]`. The client tries again by itself.",
    ),
    "host-unreachable": Problem(
        502,
        "The KMS host could not be reached.",
        "Check the network, the host's name and port, and the firewall between; the client tries again by itself.",
    ),
    "host-untrusted": Problem(
        502,
        "The server at the KMS host's address did not prove to be one.",
        "Check the address; nothing about this machine was sent to it.",
    ),
    "product-outdated": Problem(
        409,
        "The product's activation file is older than the KMS host's delegation asks for.",
        "Install the publisher's newer file: `volact client install FILE --root ROOT`.",
    ),
    "authority-unreachable": Problem(
        502,
        "The authority could not be reached.",
        "Check the network and the address; the command can be repeated.",
    ),
    "authority-untrusted": Problem(
        502,
        "The server at the authority's address did not prove to be the authority.",
        "Check the address and what stands between (a proxy that opens TLS?); the product file names its keys.",
    ),
    "answer-nonsense": Problem(
        502, "The answer is none to what was asked.", "Check the address, and what answers there."
    ),
    # publishing in DNS (D1, D2)
    "dns-key-missing": Problem(
        409,
        "DNS updates are signed, and there is no TSIG key; nothing was sent.",
        "Set dns_key_file to a file that `tsig-keygen` wrote, or enter the records by hand: `volact kmshost publish --show`.",
    ),
    "dns-key-malformed": Problem(
        422,
        "The TSIG key file cannot be used; nothing was sent.",
        "Write it with `tsig-keygen NAME > FILE`, and give the DNS server the same key.",
    ),
    "dns-name-missing": Problem(
        409,
        "This machine has no name that could be published.",
        "Set dns_name to the name that clients are to call.",
    ),
    "dns-name-taken": Problem(
        409,
        "The name that was to be published is another machine's; nothing was changed.",
        "Set dns_name to a name of this host alone, or take the other machine's addresses out of DNS.",
    ),
    "dns-server-unreachable": Problem(
        502,
        "The DNS server cannot be reached, or does not serve the domain.",
        "Check dns_server, the network and the firewall between; the host tries again by itself.",
    ),
    "dns-refused": Problem(
        403,
        "The DNS server refused the update.",
        "Allow the key at the server to change the records that `volact kmshost publish --show` prints.",
    ),
    "dns-answer-unsigned": Problem(
        502,
        "The DNS server did not sign its answer as it should, and does not serve the records.",
        "Check that the server at dns_server is the zone's primary and has the same key.",
    ),
    "dns-not-served": Problem(
        502,
        "The DNS server took the update but does not serve the records.",
        "Check that dns_server is the zone's primary; the host tries again by itself.",
    ),
    # the authority's administration
    "already-exists": Problem(409, "It exists already.", "Choose another name, or use the existing one."),
    "not-set-up": Problem(409, "This role is not set up here.", "Run its `init` command first."),
    "customer-unknown": Problem(404, "There is no such customer.", "Run `volact authority customer list`."),
    "label-unknown": Problem(404, "There is no key with this label.", "Run `volact authority key list`."),
    "activation-unknown": Problem(
        404, "There is no such activation.", "Run `volact authority activation list`."
    ),
    "numbers-used-up": Problem(
        409,
        "All labels of this kind of key are used.",
        "Issue keys of another kind, or set up another publisher.",
    ),
    "product-file-invalid": Problem(
        422, "The product file is not valid.", "Correct the named line and add it again."
    ),
    "raise-refused": Problem(
        422, "The number of activations cannot be set to that.", "Give a larger number."
    ),
    "host-activated-too-often": Problem(
        403,
        "This host was activated as often as its key allows.",
        "Ask the publisher for another KMS host key.",
    ),
    "delegation-unknown": Problem(
        404,
        "The authority has not signed the delegation that is to be extended.",
        "Activate the host with its key.",
    ),
    "operation-not-served": Problem(
        501, "This authority does not take this operation.", "Ask the publisher for a newer authority."
    ),
    # calls, files and programs
    "usage": Problem(400, "The command was not called rightly.", "See --help."),
    "data-broken": Problem(
        500,
        "A file or store is damaged or cannot be used.",
        "Restore it from a copy, or set the role up anew.",
    ),
    "store-newer": Problem(
        500,
        "The store was written by a newer version of volact.",
        "Install that version or a newer one; an older one does not touch it.",
    ),
    "not-writable": Problem(
        500, "A file or folder cannot be written.", "Check its owner, its rights and the free space."
    ),
    "not-readable": Problem(
        500, "A file or folder cannot be read.", "Check its name, its owner and its rights."
    ),
    "key-file-exposed": Problem(
        500,
        "A private key can be read by others, so it is not used.",
        "Set its mode to 0600 (chmod 600 FILE) and consider whether it was copied.",
    ),
    "port-taken": Problem(
        500, "Another program listens on this port.", "Stop it, or choose another port with --listen."
    ),
    "firewall-not-changed": Problem(
        500,
        "The firewall was not changed as it should have been.",
        "Do it as root; without --apply the command shows what to enter by hand.",
    ),
    "program-missing": Problem(
        500, "A part of volact that this command needs is not installed.", "Install the named extra with pip."
    ),
    # settings and clocks
    "setting-invalid": Problem(
        422,
        "A setting is wrong, so nothing was done.",
        "Correct it where the detail says it stands: a settings file, or an environment variable.",
    ),
    "clock-ahead": Problem(
        409,
        "The activation was granted and is stored, but this machine's clock is so far ahead that it is over.",
        "Set the clock; the activation then holds by itself. If the clock is right, the one of who granted it is wrong.",
    ),
}
