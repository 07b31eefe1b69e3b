"""Tests of gateway/telemetry: every series and every log line."""
