"""The side-by-side benchmark: the gateway and other servers on the same models, bodies and cores.

Never reports a figure without the spread of its own repeated measurements.
"""
