"""
A storm: processes of a pool with many short tasks are killed, one after the other. It counts the
tasks that are done, fail, run twice, or never end.
"""
