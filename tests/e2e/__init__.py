"""The gateway as its users meet it: a process, its sockets, its clients."""
