"""Tests of the load tools: a benchmark whose arithmetic is wrong would convince nobody, or worse, somebody."""
