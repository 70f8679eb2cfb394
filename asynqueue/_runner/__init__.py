"""
The far side: where calls really run. It needs the standard library alone, because every worker
process loads it before its first call.
"""
