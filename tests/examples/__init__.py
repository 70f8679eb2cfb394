"""
Tests of the examples.
"""
