"""
The near half of every worker that has a universe: order, what was sent ahead, cancelling,
iteration, stopping, crashing and healing. A backend supplies a channel and little else.
"""
