"""A real BIND that says who may transfer its zones, and takes whatever names they hold."""

from nameservers import Named


class Primary(Named):
    """`allowed` is what stands in its ``allow-transfer``."""

    allowed = "any"

    def _conf(self) -> str:
        more = f"type primary; check-names ignore; allow-transfer {{ {self.allowed}; }};"
        return super()._conf().replace("type primary;", more)
