"""The HTTP interface without a server: bodies, encodings, the exchange, its description."""
