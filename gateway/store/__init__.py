"""Remembering: what every replica must agree on, in memory with a file or in Redis."""
