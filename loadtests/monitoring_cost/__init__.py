"""What watching costs: processor time and memory of a server, memory and time of Redis."""
