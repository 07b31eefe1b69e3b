"""Tests of gateway/inference: from the file on disk to the answer of a shared run."""
