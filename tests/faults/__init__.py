"""
What must hold when things break: one test for each fault, which really makes it.
"""
