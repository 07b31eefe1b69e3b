"""Choosing who answers: routes, slots, breakers, comparison and the sample ratio; pure decisions only."""
