"""The tests of gateway.routing."""
