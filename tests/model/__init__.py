"""
Exhaustive searches of the states of parts that do no I/O.
"""
