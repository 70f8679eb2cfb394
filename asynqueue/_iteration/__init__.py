"""
Iteration over items that arrive in their own time: the Deferator, its sources, and producers.
"""
