"""Owns the reading of OpenAPI descriptions: which call an address is, and whether an answer is one it declares.

Understands the words of JSON Schema that the descriptions use; meeting another one is a fault, never a pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
_KNOWN = {
    *("$ref", "anyOf", "type", "enum", "required", "properties", "additionalProperties", "items"),
    *("minimum", "minItems", "pattern", "format", "description"),
}


class Description:
    """One plane's description."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._forms: dict[str, Any] = document["components"]["schemas"]
        self._patterns = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "[^/:]+", re.escape(path))), item)
            for path, item in sorted(document["paths"].items(), key=lambda entry: "{" in entry[0])
        ]

    def calls(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield every path, method and operation."""
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                if method != "parameters":
                    yield path, method.upper(), operation

    def check(self, method: str, path: str, status: int, content_type: str, body: bytes) -> None:
        """Hold an answer to what is declared for its address.

        Raises: AssertionError: the address, the status, the content type or the body is not declared.
        """
        item = next((item for pattern, item in self._patterns if pattern.fullmatch(path)), None)
        if item is None:
            assert status in (401, 403, 404, 405, 501), f"{method} {path}: not declared, and {status}"
            return
        operation = item.get(method.lower())
        if operation is None:
            assert status in (404, 405, 501), f"{method} {path}: the method is not declared, and {status}"
            return
        response = operation["responses"].get(str(status))
        assert response is not None, f"{method} {path}: {status} is not declared"
        content = response.get("content")
        if content is None:
            assert body == b"", f"{method} {path}: a body where none is declared"
            return
        assert content_type in content, f"{method} {path}: {content_type} is not declared for {status}"
        if content_type.endswith("json"):
            faults = list(self.faults(content[content_type]["schema"], json.loads(body)))
            assert not faults, f"{method} {path} {status}: {faults}"

    def faults(self, schema: dict[str, Any], value: object, at: str = "$") -> Iterator[str]:
        """Yield where a value is not of its form."""
        unknown = schema.keys() - _KNOWN
        if unknown:
            yield f"{at}: the schema says {unknown}, which this reader does not know"
        if "$ref" in schema:
            yield from self.faults(self._forms[schema["$ref"].removeprefix("#/components/schemas/")], value, at)
        if "anyOf" in schema and all(list(self.faults(choice, value, at)) for choice in schema["anyOf"]):
            yield f"{at}: none of the forms fits"
        if "type" in schema and not _is_of(schema["type"], value):
            yield f"{at}: {type(value).__name__}, expected {schema['type']}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{at}: {value!r} is none of {schema['enum']}"
        if "minimum" in schema and isinstance(value, int | float) and value < schema["minimum"]:
            yield f"{at}: {value} is below {schema['minimum']}"
        if "minItems" in schema and isinstance(value, list) and len(value) < schema["minItems"]:
            yield f"{at}: {len(value)} items"
        if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
            yield f"{at}: {value!r} is not like {schema['pattern']}"
        if isinstance(value, dict):
            yield from self._object_faults(schema, value, at)
        if isinstance(value, list) and "items" in schema:
            for number, item in enumerate(value):
                yield from self.faults(schema["items"], item, f"{at}[{number}]")

    def _object_faults(self, schema: dict[str, Any], value: dict[str, Any], at: str) -> Iterator[str]:
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{at}: '{name}' is missing"
        properties = schema.get("properties", {})
        for name, item in value.items():
            if name in properties:
                yield from self.faults(properties[name], item, f"{at}.{name}")
            elif "additionalProperties" in schema:
                yield from self.faults(schema["additionalProperties"], item, f"{at}.{name}")


def _is_of(types: str | list[str], value: object) -> bool:
    names = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names)
