"""
Tests of the queue.
"""
