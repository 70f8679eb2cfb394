"""
The promises of the tools on Deferreds.
"""
