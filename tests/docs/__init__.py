"""
The promises that the documentation makes by showing code.
"""
