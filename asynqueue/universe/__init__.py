"""
The far side: what runs in a worker's universe, and the messages that it speaks.

This room is light. It imports neither Twisted nor zope.interface, because a child process imports
it before its first call.
"""
