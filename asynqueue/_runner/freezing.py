"""
Take what is loaded out of the garbage collector's sight. A fork server imports this module after
all others, and nothing else imports it, because that is its effect.

Modules are never garbage. The children that are forked later do not look through them again and
again, which would copy their memory, nor does the server when it ends, which took it a twentieth of
a second.
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
