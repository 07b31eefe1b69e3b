"""Answer by exit code whether the gateway of this container is well: `python healthcheck.py [/livez|/readyz]`.

Needs nothing but Python: the image has no curl.
"""

from __future__ import annotations

import http.client
import os
import sys

_WITHIN_S = 2.0


def main(path: str) -> int:
    """Ask the admin plane of this container, whatever port it was given.

    Returns: 0 for a 200, else 1 with the reason on standard error.
    """
    port = int(os.environ.get("GATEWAY_ADMIN_PORT", "8002"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WITHIN_S)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as exc:
        sys.stderr.write(f"{path}: {exc}\n")
        return 1
    finally:
        connection.close()
    if status != 200:
        sys.stderr.write(f"{path}: {status}\n")
    return int(status != 200)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "/livez"))
