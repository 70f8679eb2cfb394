"""
The measures: a file each, with its rows and what its contenders run.
"""
