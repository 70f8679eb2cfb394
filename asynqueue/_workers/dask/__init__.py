"""
The worker that runs its calls on a cluster of Dask distributed.
"""
