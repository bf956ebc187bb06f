"""The publisher's licensing site: issues keys, activates machines and hosts, publishes what is blocked.

`activation` and `orders` decide and are pure; `store` is SQL; `authority` answers what machines ask, `publisher`
does what the publisher's own people do; `api` is HTTP, `cli` the commands.
"""
