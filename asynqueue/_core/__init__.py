"""
The core: tasks, their states and options, priorities, series, the heap and the scheduler. It
imports no Twisted, does no I/O and knows no clock.
"""
