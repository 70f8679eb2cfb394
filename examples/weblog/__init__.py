"""
What a web server's access logs tell: parsed on a process queue, with all cores.

C{python -m examples.weblog --help} says how to run it.
"""
