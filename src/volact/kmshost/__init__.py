"""The enterprise's activation host: counts the machines that call it and gives them leases (K1 to K22).

Pure: `counting`, `nonces`. The role is `kmshost.KmsHost`; `ledger` and `store` are SQL, `api` is HTTP, `cli` the
commands, `setup` and `activating` what happens before it serves.
"""
