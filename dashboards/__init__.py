"""Dashboards, rules and what holds them to the gateway's series; no part of the gateway itself."""
