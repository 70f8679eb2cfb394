"""
What tests are made with: workers that are stepped by hand, and the contract of every worker.
"""
