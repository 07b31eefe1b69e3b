"""Runs models: what lies on disk, what is loaded, what shares a run."""
