"""The gateway on a real NVIDIA GPU; skipped everywhere else, run by `make test-gpu`."""
