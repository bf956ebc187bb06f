"""Asking machines: over SSH, over WinRM, this one itself; what they say, and why some said nothing (V2, V10)."""
