"""
The near side of workers: the protocol, the supervisor of a runner, and the backends.
"""
