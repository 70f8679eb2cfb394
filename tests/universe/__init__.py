"""
The promises of the far side: framing, packing, and the universe itself, driven by hand.
"""
