"""
Tests of how queues are seen and steered from outside.
"""
