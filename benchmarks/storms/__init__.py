"""
A storm: processes are killed, one after the other, under a pool that has many short tasks; and how
many of these are done, fail, are run twice or never heard of again.
"""
