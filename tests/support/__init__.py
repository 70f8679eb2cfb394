"""
Tools for tests, beside C{asynqueue.testing}: test cases with a clock, and real processes.
"""
