"""Other people's servers, each in an environment of its own: how they are installed, configured and started.

Never imports one of them into the benchmark's own process; the files named after a server run in its environment.
"""
