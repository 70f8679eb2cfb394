"""
A module that starts a thread when it is imported.
"""

from __future__ import annotations

import threading
import time

threading.Thread(target=time.sleep, args=(3600,), daemon=True, name="background").start()
