"""
The asyncio face.
"""
