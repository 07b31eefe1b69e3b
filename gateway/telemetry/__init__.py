"""Counts: every metric series, and the logs."""
