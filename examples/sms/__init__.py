"""
A server that takes telephone numbers from a web form and texts them, through a slow gateway.

C{python -m examples.sms} starts it, together with a gateway that only pretends to send.
"""
