"""Owns callers that ask a gateway for predictions of real rows until told to stop, one feature drifting.

Never looks at an answer beyond its status: the console does.
"""

from __future__ import annotations

import http.client
import itertools
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from loadtests.datasets import load_dataset
from loadtests.injection import Injection
from loadtests.payloads import Drawer, v2_json

PAUSE_S = 0.02
BODIES = 40


class Callers:
    """One thread that sends requests of 1 to 16 rows each, with routing keys.

    Args:
        drifting: The feature that is three standard deviations off.
    """

    def __init__(self, data_url: str, model: str, *, drifting: str) -> None:
        fault = Injection(kind="shift", model=model, feature=drifting, amount=3.0)
        drawer = Drawer(load_dataset(model), [fault], max_rows=16, seed=11)
        self._requests = [v2_json(model, drawer.draw(0.0)) for _ in range(BODIES)]
        self._address = urlsplit(data_url)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._call, name="callers")
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        assert self._failure is None, self._failure

    def _call(self) -> None:
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=20)
        try:
            for number in itertools.count():
                request = self._requests[number % BODIES]
                headers = request.headers | {"x-routing-key": f"customer-{number % 997}"}
                connection.request("POST", request.path, request.content, headers)
                answer = connection.getresponse()
                content = answer.read()
                assert answer.status == 200, content
                if self._stopping.wait(PAUSE_S):
                    return
        except (AssertionError, OSError, http.client.HTTPException) as exc:
            self._failure = exc
        finally:
            connection.close()
