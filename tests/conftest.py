"""Owns what every test starts from: property tests that draw the same examples on every run.

Never holds fixtures of one package; those stand beside its tests.
"""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
