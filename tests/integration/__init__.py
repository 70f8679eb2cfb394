"""
Tests of the whole, with real processes.
"""
