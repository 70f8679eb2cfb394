"""
The promises of the core: records, states, priorities, and who runs what.
"""
