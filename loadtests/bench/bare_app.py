"""Owns the yardstick: the least an ASGI application on uvicorn can do with a request, and its process.

Never looks at what it received: it reads the body to its end and answers with fixed bytes.

Runs as `python -m loadtests.bench.bare_app --port PORT --answer-bytes N`.
"""

import argparse
from collections.abc import Awaitable, Callable, MutableMapping

import uvicorn

Event = MutableMapping[str, object]


class BareApp:
    """An ASGI application that answers every request with the same JSON."""

    def __init__(self, answer_bytes: int) -> None:
        """Prepare an answer of `answer_bytes` bytes (at least 2)."""
        self._body = b'"' + b"x" * (max(answer_bytes, 2) - 2) + b'"'
        self._headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self._body)).encode("ascii")),
        ]

    async def __call__(
        self,
        _scope: Event,
        receive: Callable[[], Awaitable[Event]],
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        """Read the body, ignore it, answer 200."""
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(prog="bare_app")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer-bytes", type=int, required=True)
    arguments = parser.parse_args()
    uvicorn.run(
        BareApp(arguments.answer_bytes),
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
