"""
The promises of the far side: framing, packing, and the runner itself, driven by hand.
"""
