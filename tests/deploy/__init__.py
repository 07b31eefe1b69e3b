"""Tests of the image's steps and of the compose file, without a container engine."""
