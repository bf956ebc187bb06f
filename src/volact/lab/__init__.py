"""The laboratory: machines by the thousand that speak the KMS protocol, and the stories of the rules, played.

Everything here works under laboratory publishers only (PROTOCOL section 9). What is driven are real programs over
real HTTPS on a network's loopback or a test bench; what is simulated are the machines that call them.
"""
