"""
Tests of the worker in a child process: its parts, and the contract of all workers.
"""
