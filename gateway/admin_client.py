"""Asks the admin plane of a running gateway, for the commands that show or change what it does.

Knows no table and no command; an answer comes back as parsed JSON.
"""

from __future__ import annotations

import http.client
import json
import urllib.parse
from typing import Any

from gateway.errors import CallRefused, CannotStart, WrongUsage

_TIMEOUT_S = 30.0


class AdminClient:
    """One gateway's admin plane."""

    def __init__(self, url: str) -> None:
        """Take the address.

        Args:
            url: Of the plane, not of a call: `http://127.0.0.1:8002`.
        Raises: WrongUsage: not such an address.
        """
        self.url = url.rstrip("/")
        try:
            parts = urllib.parse.urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise WrongUsage(f"--admin {url}: {exc}") from exc
        if parts.scheme not in ("http", "https") or not host:
            raise WrongUsage(f"--admin {url}: expected an address like http://127.0.0.1:8002")
        self._connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path = host, port, parts.path

    def get(self, path: str) -> dict[str, Any]:
        """Ask for a document.

        Raises:
            CannotStart: nobody answers there.
            CallRefused: the answer is no, or is not a gateway's.
        """
        connection = self._connect(self._host, self._port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", self._path + path, headers={"accept": "application/json"})
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise CannotStart(
                f"{self.url}: no gateway answers there ({_reason(exc)}); start one, or name its address with --admin"
            ) from exc
        finally:
            connection.close()
        document = _parsed(body)
        if status >= 400:
            text = document.get("error") if document else None
            raise CallRefused(
                f"{self.url}{path}: {status}: {text or 'refused without a reason; is it the admin port?'}"
            )
        if document is None:
            raise CallRefused(f"{self.url}{path}: expected JSON, got something else; is it the admin port?")
        return document


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
