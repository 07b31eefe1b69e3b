"""The whole story on real processes: split, shadow, drift, alarm, a candidate that fails, abort, and back to quiet.

Never asserts what it has not asked a socket for.
"""
