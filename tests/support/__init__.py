"""
What tests are made with, beside C{asynqueue.testing}: test cases with a clock, and real processes.
"""
