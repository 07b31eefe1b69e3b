"""The tests of gateway.store, and the Redis they run."""
