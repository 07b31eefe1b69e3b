"""Speaks HTTP: bytes to arrays and back, errors to statuses."""
