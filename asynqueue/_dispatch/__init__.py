"""
The resizable dispatch queue: pending jobs, persistence and stores.
"""
