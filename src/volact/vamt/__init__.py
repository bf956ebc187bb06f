"""VAMT, the enterprise's management tool: its machines, their licence states, keys, activation, the MAK proxy (V, P)."""
