"""Owns the luck of one fuzz run: a seeded source, the models to ask, and good requests to start from.

Never bends anything itself.
"""

from __future__ import annotations

import json
import random

from tests.fuzz.cases import Draft, Json, ModelUnderTest

LENGTH = b"inference-header-content-length"


class Draw:
    """What makers of cases draw from; all of it follows from the seed."""

    def __init__(self, seed: int, models: tuple[ModelUnderTest, ...]) -> None:
        self.random = random.Random(seed)
        self.models = models
        self._seed = seed
        self._ids = 0

    def chance(self, probability: float) -> bool:
        """Say yes as often as that."""
        return self.random.random() < probability

    def request_id(self) -> str:
        """Return an id that no other request has."""
        self._ids += 1
        return f"fuzz-{self._seed}-{self._ids}"

    def model(self) -> ModelUnderTest:
        """Return any of the models."""
        return self.random.choice(self.models)

    def document(self, model: ModelUnderTest) -> dict[str, Json]:
        """Write a request that the model answers, with some of what requests may also hold."""
        document = model.document()
        if self.chance(0.3):
            document["id"] = self.random.choice(("", "a", "é", "x" * 500))
        if self.chance(0.2):
            document["parameters"] = {"priority": 1, "binary_data_output": self.chance(0.5)}
        if self.chance(0.2):
            document["outputs"] = [{"name": self.random.choice(model.outputs)}]
        return document

    def input_of(self, document: dict[str, Json]) -> dict[str, Json]:
        """Return any of the document's inputs, to be changed."""
        inputs = document["inputs"]
        assert isinstance(inputs, list)
        chosen = self.random.choice(inputs)
        assert isinstance(chosen, dict)
        return chosen

    def draft(self) -> Draft:
        """Return a request that is answered with 200."""
        model = self.model()
        return self.json(model, model.document())

    def json(self, model: ModelUnderTest, document: dict[str, Json]) -> Draft:
        """Return an inference request of this document."""
        return self.infer(model, json.dumps(document).encode())

    def infer(self, model: ModelUnderTest, body: bytes, header_length: int | None = None) -> Draft:
        """Return an inference request of this body."""
        draft = Draft(target=model.target, body=body, request_id=self.request_id())
        if header_length is not None:
            draft.headers.append((LENGTH, b"%d" % header_length))
        return draft
