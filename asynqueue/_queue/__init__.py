"""
The task queue: its engine, its pool of workers, broadcast, observers, map and shutdown.
"""
