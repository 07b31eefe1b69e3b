"""Load that is put on a running gateway: tools and benchmarks, none of them imported by it.

Never sends a byte to an address outside the loopback range unless told to by name (`--allow-remote`).
"""
