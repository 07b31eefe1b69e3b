"""Asks the admin plane of a running gateway, for the commands that show or change what it does.

Knows no table and no command; an answer comes back as parsed JSON.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.errors import CallRefused, CannotStart, WrongUsage

_TIMEOUT_S = 30.0
_HINTS = {
    401: "; put it into GATEWAY_ADMIN_TOKEN",
    412: "; somebody was faster, look at it before you try again",
}
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class Answered(NamedTuple):
    """An answer that is a yes.

    Attributes:
        document: None where there is none to give: a deletion.
        etag: As the header has it, quoted; "" without one.
    """

    status: int
    document: dict[str, Any] | None
    etag: str


class AdminClient:
    """One gateway's admin plane."""

    def __init__(self, url: str, *, token: str = "") -> None:
        """Take the address.

        Args:
            url: Of the plane, not of a call: `http://127.0.0.1:8002`.
            token: Sent with every call; "" sends none.
        Raises: WrongUsage: not such an address, or no token.
        """
        self.url = url.rstrip("/")
        try:
            parts = urllib.parse.urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise WrongUsage(f"--admin {url}: {exc}") from exc
        if parts.scheme not in ("http", "https") or not host:
            raise WrongUsage(f"--admin {url}: expected an address like http://127.0.0.1:8002")
        if token and _TOKEN.fullmatch(token) is None:
            raise WrongUsage("the token has characters that no token has; was more pasted than the token?")
        self._connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path = host, port, parts.path
        self._authorization = {"authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str) -> dict[str, Any]:
        """Ask for a document.

        Raises:
            CannotStart: nobody answers there.
            CallRefused: the answer is no, or is not a gateway's.
        """
        document = self.ask("GET", path).document
        if document is None:
            raise CallRefused(f"{self.url}{path}: expected JSON, got nothing; is it the admin port?")
        return document

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answered:
        """Make a call.

        Args:
            body: Written as JSON; None sends none.
        Raises:
            CannotStart: nobody answers there.
            CallRefused: the answer is no, or is not a gateway's.
        """
        connection = self._connect(self._host, self._port, timeout=_TIMEOUT_S)
        content = None if body is None else json.dumps(body).encode()
        given = {"accept": "application/json, application/problem+json", **self._authorization, **(headers or {})}
        if content is not None:
            given["content-type"] = "application/json"
        try:
            connection.request(method, self._path + path, body=content, headers=given)
            response = connection.getresponse()
            status, etag, answer = response.status, response.getheader("etag", ""), response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise CannotStart(
                f"{self.url}: no gateway answers there ({_reason(exc)}); start one, or name its address with --admin"
            ) from exc
        finally:
            connection.close()
        document = _parsed(answer)
        if status >= 400:
            raise CallRefused(f"{self.url}{path}: {status}: {_words(document)}{_HINTS.get(status, '')}", status=status)
        if document is None and answer:
            raise CallRefused(f"{self.url}{path}: expected JSON, got something else; is it the admin port?")
        return Answered(status, document, etag)


def _words(document: dict[str, Any] | None) -> str:
    """Say in one line why an answer is no."""
    text = document.get("detail") or document.get("error") if document else None
    if document is None or not isinstance(text, str):
        return "refused without a reason; is it the admin port?"
    words = " ".join(text.split())
    if document.get("outcome") == "unknown":
        words += "; whether it was done is not known, look before you try again"
    return words


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
