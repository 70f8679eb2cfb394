"""
Guards the pages of a small web server, whatever they are about. L{AdminSite
<asynqueue.admin.AdminSite>} is served by it, and so can be pages of your own.

L{GuardedSite} is a C{twisted.web.server.Site} that turns away, before any page hears of it::

    site = GuardedSite(root, reactor=reactor)
    port = await TCP4ServerEndpoint(reactor, 8100, interface="127.0.0.1").listen(site)
    site.hosts.update(hostsOf(port.getHost().port))

  - a request whose Host is not one of C{site.hosts}: 421. So nobody can make another name point
    here (DNS rebinding).
  - a request that another site's page makes a browser send: 403. Only a GET by which a browser
    opens a page, as after a click on a link, may come from another site.
  - a method that is none of GET, HEAD and POST: 405.
  - a body that is longer than the limit (413), or whose length is not told (411). The headers
    decide that: nothing of such a body is kept.

A client has a fixed time to send a whole request, however steadily its bytes dribble in, and to
read an answer. Then its connection is closed. If there are too many connections, the one that has
waited longest for a whole request is closed to make room for a new one.

Each response carries headers that forbid scripts, frames, foreign resources, caches and guesses of
its type. Pages that need inline styles or scripts do not work under them: give files to the site.

L{visible} is for texts that are shown. Templates escape markup, and L{visible} escapes the
characters that a reader cannot see.

Nothing here checks who somebody is.
"""

from __future__ import annotations

from asynqueue.admin._webkit import GuardedSite, Limits, hostsOf, visible

__all__ = ["GuardedSite", "Limits", "hostsOf", "visible"]
