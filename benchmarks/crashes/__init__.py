"""
Twenty crashes, each beside a healthy bystander: what becomes of the task that crashes, of the task
that another process is running, and of the pool.
"""
