"""`volact doctor`: does a KMS network hold together, seen from this machine (D5).

Every check says what it looked at, what it found and what to do. Nothing is changed, and nothing about this machine
is sent to anybody: hosts are only asked to prove themselves (D4).
"""
