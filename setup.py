"""
For tools that still look for this file. Everything that it could say stands in C{pyproject.toml}.
"""

from setuptools import setup

setup()
