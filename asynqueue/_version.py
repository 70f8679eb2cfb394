"""
The version of this release. It has a module of its own, so that the build reads it without
running asynqueue.
"""

__version__ = "1.0.0.dev0"
