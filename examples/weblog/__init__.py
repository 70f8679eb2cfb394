"""
A report on a web server's access logs, which are parsed on a process queue with all cores.

C{python -m examples.weblog --help} tells how to run it.
"""
