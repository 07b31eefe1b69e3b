"""Watches what flows through the served versions: features, predictions, their drift and their quality.

Never touches a request: everything here happens after the answer.
"""
