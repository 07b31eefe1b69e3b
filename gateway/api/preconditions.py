"""What If-Match and If-None-Match ask for: which revision of a route a change means.

Pure; compares nothing with a store.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from gateway.api.problems import Headers
from gateway.errors import InvalidRequest

ANY = "*"
# RFC 9110, sections 5.6.1 and 8.8.3, without obs-text: a tag may hold commas, a list may have empty members.
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
_LIST = re.compile(r'[ \t,]*(?:(?:W/)?"[\x21\x23-\x7e]*"[ \t]*(?:,[ \t,]*|\Z))*')


class Precondition(msgspec.Struct, frozen=True):
    """What a change is made on condition of.

    Attributes:
        tags: Entity tags without their quotes of which the route must have one; None: nothing was said. "*" alone:
            the route must exist. Weak tags are left out, since they never match here: an empty tuple matches nothing.
        must_be_new: The route must not exist.
    """

    tags: tuple[str, ...] | None = None
    must_be_new: bool = False


def read_precondition(headers: Headers) -> Precondition:
    """Read both headers.

    Raises: InvalidRequest: one cannot be read, both are there, or If-None-Match names a tag.
    """
    if_match = _joined(headers, b"if-match")
    if_none_match = _joined(headers, b"if-none-match")
    if if_match is not None and if_none_match is not None:
        raise InvalidRequest("If-Match is for what exists, If-None-Match: * for what is new; expected one of them")
    if if_none_match is not None:
        if if_none_match != ANY:
            raise InvalidRequest("If-None-Match: expected *, to create what must not exist yet")
        return Precondition(must_be_new=True)
    return Precondition(None if if_match is None else tuple(_tags(if_match)))


def _tags(value: str) -> Sequence[str]:
    if value == ANY:
        return [ANY]
    if _LIST.fullmatch(value) is None:
        raise InvalidRequest('If-Match: expected an entity tag in double quotes as ETag has it, "1-2-abc", or *')
    return [tag for weak, tag in _TAG.findall(value) if not weak]


def _joined(headers: Headers, name: bytes) -> str | None:
    values = [value.decode("latin-1").strip() for given, value in headers if given == name]
    return ", ".join(values) if values else None
