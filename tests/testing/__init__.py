"""
Tests of asynqueue.testing.
"""
