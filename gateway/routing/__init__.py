"""Chooses the variant that answers."""
