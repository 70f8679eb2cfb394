"""
The tests of asynqueue and of its demo, one folder a room.
"""
