"""
The promises of the resizable dispatch queue.
"""
