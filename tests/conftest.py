"""Owns what every test starts from: property tests that draw the same examples on every run.

Never holds fixtures of one package; those stand beside its tests.
"""

import signal

from hypothesis import settings

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
