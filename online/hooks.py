"""What schemathesis sends, with targets that exist on this machine alone.

Made-up target URLs have made-up hosts, some of which are somebody's: the server under test would deliver to them. So
the host of every URL that has one becomes a port of loopback at which nobody listens. What is no URL stays as it is.
"""

from urllib.parse import urlsplit, urlunsplit

import schemathesis

NOBODY = "127.0.0.1:9001"


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("target_url"), str):
        case.body = {**body, "target_url": elsewhere(body["target_url"])}


def elsewhere(url):
    try:
        parts = urlsplit(url)
        if parts.hostname:
            return urlunsplit(parts._replace(netloc=NOBODY))
    except ValueError:
        pass
    return url
