"""
Workers whose runners are behind a network connection: the session that survives a cut, the near
side, and the server.
"""
