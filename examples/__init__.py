"""
Programs that use asynqueue for something real.
"""
