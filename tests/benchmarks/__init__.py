"""
The benchmarks work, and the walk stays short.
"""
