"""The codes of VAMT's refusals, and of what travels between two of them: `codes` goes on here (RULES E, V, P).

Append-only, as `codes` is.
"""

from __future__ import annotations

from volact.protocol.codes import Problem

CODES: dict[str, Problem] = {
    # VAMT's machines and people (V1, V3, V6)
    "selection-empty": Problem(
        422,
        "The selection holds no machine.",
        "See `volact vamt machine list` with the same selection; to take all machines say so: --all.",
    ),
    "filter-malformed": Problem(
        422,
        "The filter is malformed.",
        "Correct it at the named place; `volact vamt view fields` lists the fields.",
    ),
    "machine-unknown": Problem(
        404, "There is no such machine.", "Run `volact vamt machine list` for names and ids."
    ),
    "machine-elsewhere": Problem(
        409,
        "Another machine answers at the name or address that this one was known by.",
        "Find the machines anew: `volact vamt discover`; if this one is gone for good: `volact vamt machine remove`.",
    ),
    "group-unknown": Problem(404, "There is no such group.", "Run `volact vamt group list`."),
    "view-unknown": Problem(404, "There is no such view.", "Run `volact vamt view list`."),
    "person-unknown": Problem(404, "There is no such person.", "Run `volact vamt user list`."),
    "publisher-unknown": Problem(
        404,
        "VAMT does not know this publisher.",
        "Let it know the publisher by a product file: `volact vamt publisher add FILE --root ROOT`.",
    ),
    "role-insufficient": Problem(
        403,
        "This person's role does not allow that.",
        "Ask a key administrator to do it, or to give you another role: `volact vamt user add`.",
    ),
    "token-refused": Problem(
        401,
        "The call brings no token that is good here.",
        "Have a key administrator make one: `volact vamt user token NAME`.",
    ),
    # finding machines (V1)
    "list-malformed": Problem(
        422,
        "The list of machines is malformed.",
        "Correct it at the named line and column, then read it again.",
    ),
    "range-too-large": Problem(
        422,
        "The ranges hold more addresses than are asked at once.",
        "Name smaller ranges, such as one subnet after the other.",
    ),
    "directory-refused": Problem(
        403,
        "The directory did not give what was asked for.",
        "Check the account, its password and rights, and the base.",
    ),
    "directory-unreachable": Problem(
        502,
        "The directory could not be reached, or did not prove to be the one named.",
        "Check its address, the network, and the CA that its certificate is from.",
    ),
    "transfer-refused": Problem(
        403,
        "The name server did not hand over the zone.",
        "Allow this machine or a key to transfer it, or look addresses up one by one: `volact vamt discover dns --reverse RANGE`.",
    ),
    "name-server-unreachable": Problem(
        502,
        "The name server did not answer as one.",
        "Check its address, the network and the firewall between.",
    ),
    "network-unreachable": Problem(
        502, "There is no way from here to any of the addresses.", "Check this machine's network and routes."
    ),
    # asking machines (V2, V10, T28, T29)
    "unreachable-name": Problem(
        502,
        "The machine has no name or address that leads anywhere.",
        "Check its name in DNS, or find it anew: `volact vamt discover`.",
    ),
    "unreachable-port": Problem(
        502,
        "The machine does not take a connection: it is off, or a firewall or a missing service is in the way.",
        "Switch it on; what it needs is shown by `volact vamt prepare`.",
    ),
    "timed-out": Problem(
        504, "The machine did not answer in time.", "Ask it again, or raise the time limit: --limit."
    ),
    "credential-refused": Problem(
        403,
        "The machine does not let this account in, or not to what it was asked for.",
        "Check the account there and the group's login: `volact vamt login show`.",
    ),
    "login-missing": Problem(
        409,
        "There is no login for the machine's group.",
        "Enter one: `volact vamt login set --group GROUP`.",
    ),
    "login-unusable": Problem(
        422,
        "The login cannot be used as it was entered.",
        "Enter it again: `volact vamt login set --group GROUP`.",
    ),
    "host-key-unknown": Problem(
        403,
        "The machine's host key is not pinned, so nothing was sent to it.",
        "Compare the fingerprint with the machine's own, then pin it: `volact vamt machine trust`.",
    ),
    "host-key-changed": Problem(
        403,
        "The machine shows another host key than the pinned one: it was set up anew, or is another machine.",
        "Find out which; if it was set up anew, pin its new key: `volact vamt machine trust`.",
    ),
    "certificate-untrusted": Problem(
        403,
        "The machine's TLS certificate is not from a CA that is trusted here, so nothing was sent to it.",
        "Give the CA with the group's login: `volact vamt login set --ca FILE`.",
    ),
    "client-missing": Problem(
        404,
        "The machine has no volact, or not where it was looked for.",
        "Install it there: `volact vamt prepare` shows how; or say where it is: `volact vamt login set --command`.",
    ),
    "client-failed": Problem(
        502,
        "The volact on the machine ended with an error.",
        "Run `volact client status` there and see what it says.",
    ),
    "answer-too-long": Problem(
        502,
        "The machine printed more than an answer can hold, and was cut off.",
        "Run `volact client status --json` there and see what prints so much.",
    ),
    # sealing (M8, T28)
    "passphrase-wrong": Problem(
        403,
        "The passphrase does not open what VAMT has sealed.",
        "Give the passphrase that it was sealed with.",
    ),
    "passphrase-missing": Problem(
        409,
        "What VAMT has sealed needs its passphrase, and none was given.",
        "Give --passphrase @FILE, or name the file in VOLACT_VAMT_PASSPHRASE_FILE.",
    ),
    "keyring-unavailable": Problem(
        500,
        "The system's keyring cannot be used here.",
        "Unlock it and try again, or seal with a passphrase: `volact vamt seal --passphrase @FILE`.",
    ),
    # requests and confirmations as QR codes (P6)
    "qr-incomplete": Problem(
        422, "Not all of the QR codes are there.", "Add those that are missing; their order does not matter."
    ),
    "qr-mixed": Problem(
        422,
        "The QR codes are those of several requests or answers.",
        "Give those of one alone: all of them show the same eight characters before their last colon.",
    ),
    "qr-damaged": Problem(
        422,
        "The text is not that of QR codes as volact makes them, or it was changed.",
        "Photograph or copy each code again, whole, from `V1:` on.",
    ),
    "request-missing": Problem(
        422,
        "No machine's request was given.",
        "Give the file that `slmgr /dti FILE` wrote, or its QR codes, whole.",
    ),
    "picture-unreadable": Problem(
        422,
        "No QR code of a request could be read in the picture.",
        "Take it again, near, sharp and straight, with one whole code in it; or paste the code's text.",
    ),
    # computer lists between two VAMTs (P1 to P5)
    "row-malformed": Problem(
        422,
        "The row is not one of a computer list.",
        "Copy the file again from where it was written; other rows are not touched by this one.",
    ),
    "row-repeated": Problem(422, "The row stands in the list twice.", "Nothing: the first of them counted."),
    "list-damaged": Problem(
        409,
        "The computer list is not as it was written, so only what the publisher signed counts in it.",
        "Copy the file again from where it was written, and import it again.",
    ),
    "list-foreign": Problem(
        409,
        "This VAMT never asked for that.",
        "Import the list at the VAMT whose list it answers.",
    ),
    "list-outdated": Problem(
        409,
        "A newer list of the same writer says otherwise.",
        "Use the newer list; import this one only where that one was not.",
    ),
    "list-unknown": Problem(404, "There is no such computer list.", "Run `volact vamt lists`."),
    "list-empty": Problem(
        422,
        "The computer list would have no row.",
        "See the reasons row by row; correct them, then export again.",
    ),
    # keys (V4)
    "key-not-held": Problem(
        404,
        "VAMT holds no key with this label.",
        "Run `volact vamt key list`; to add the key: `volact vamt key add`.",
    ),
    "keys-malformed": Problem(
        422,
        "Lines of the list of keys are wrong, so none of its keys was kept.",
        "Correct the named lines, then add the list again.",
    ),
    # the API (V6)
    "token-unknown": Problem(404, "There is no such token.", "Run `volact vamt token list` for the ids."),
    "server-name-unknown": Problem(
        421,
        "The service is not known by the name that it was called by.",
        "Call it by localhost or its address, or set the names of this machine: the setting `names`.",
    ),
    "origin-refused": Problem(
        403,
        "The call was made by a page of another site.",
        "Open VAMT itself; another site's page may not use it.",
    ),
    "changed-meanwhile": Problem(
        412,
        "Somebody else changed it meanwhile, so nothing was changed now.",
        "Look at it as it is now, then send the change again.",
    ),
    "outcome-unknown": Problem(
        409,
        "The service stopped while it worked on a request with this key, so nobody knows whether it was done.",
        "Look in the log; if it was not done, send it again with another Idempotency-Key.",
    ),
    "undertaking-unknown": Problem(
        404,
        "There is no such undertaking: those of a service that was started anew are in the log.",
        "See GET /v1/undertakings.",
    ),
    "undertaking-running": Problem(
        409, "The undertaking has not ended.", "Wait until it has, or stop it: POST /v1/undertakings/ID/stop."
    ),
    # actions on machines (V5)
    "machine-in-use": Problem(
        409,
        "Another action is at work on this machine.",
        "Wait until it has ended, then go on: `volact vamt action resume`.",
    ),
    "machine-not-collected": Problem(
        409,
        "VAMT does not know yet what is on the machine.",
        "Ask it: `volact vamt collect`; or name the product: --product ID.",
    ),
    "transport-reads-only": Problem(
        409,
        "The machine is reached over WinRM, by which VAMT reads and changes nothing.",
        "Do it on the machine itself, or reach it by SSH: `volact vamt machine add`.",
    ),
    "key-in-the-way": Problem(
        409,
        "The product has a key of its own, so it asks no KMS host.",
        "Take the key off first: `volact vamt remove-key`.",
    ),
    "action-unknown": Problem(404, "There is no such action.", "Run `volact vamt action list`."),
    "action-not-queued": Problem(404, "Nothing of that waits in the queue.", "Run `volact vamt queue list`."),
    "schedule-unknown": Problem(404, "There is no such schedule.", "Run `volact vamt schedule list`."),
    # lists
    "host-by-hand": Problem(
        409,
        "A KMS host takes its answer from a file.",
        "Write it: `volact vamt apply --into FOLDER`; there: `volact kmshost activate --response-file FILE`.",
    ),
}
