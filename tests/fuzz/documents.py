"""Owns what is done to JSON: bending documents, bending their text, and values that parsers stumble over.

Knows no HTTP and no model.
"""

from __future__ import annotations

import copy
import json
import random
import re

from tests.fuzz.cases import MAX_DEPTH, Json

JUNK: list[Json] = [
    *(None, True, False),
    *(0, 1, -1, 255, 256, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40, 10**400),
    *(1.5, -0.0, 1e308, 3.5e38, 1e-320, float("nan"), float("inf"), -float("inf")),
    *("", "x", "\0", "\ud800", "\udc00\ud800", "é", "😀", "NaN", "1", "true", "x" * 1000),
    *("[" * 200, '"]}' * 70, "\\" * 65),
    [],
    [[]],
    [[], []],
    {},
    {"a": {}},
    [None],
    [True],
    [{}],
    [[1], [2, 3]],
    [[1], 2],
    [[[1]]],
    ["a", 1],
    [1, "a"],
]
"""Values of every kind, most of them where they do not belong."""

TOKENS = [
    *(b"NaN", b"Infinity", b"-Infinity", b"-NaN", b"nan", b"inf", b"undefined", b"None", b"True"),
    *(b"+1", b"01", b"1.", b".5", b"1e", b"1e999", b"-1e999", b"0x10", b"--1", b"-", b"1e-9999"),
    *(b"1" * 400, b"1" * 5000, b"0." + b"1" * 5000),
    *(b"'a'", b'"\\ud800"', b'"\\u12"', b'"\\x"', b'"\xff"', b'"\xed\xa0\x80"', b'"\x00"', b'"\n"'),
    *(b"// c\n1", b"/* c */", b",", b",,", b":", b"}", b"]", b"{", b"[", b'"', b"\\"),
    *(b"\x00", b"\xef\xbb\xbf", b"\xff", b"\x1f\x8b"),
]
"""What may stand, or must not stand, in the text of JSON."""

_FRACTION = re.compile(rb"\d+\.\d+")


def bent_document(random_: random.Random, document: dict[str, Json]) -> dict[str, Json]:
    """Return a copy with one to three changes anywhere in it."""
    bent = copy.deepcopy(document)
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        container = _somewhere(random_, bent)
        if isinstance(container, dict):
            _bend_object(random_, container)
        else:
            _bend_array(random_, container)
    return bent


def bent_text(random_: random.Random, text: bytes) -> bytes:
    """Return the text with one to three changes to its bytes."""
    bent = bytearray(text)
    for _ in range(random_.choice((1, 1, 2, 3))):
        at = random_.randrange(len(bent) + 1)
        until = min(len(bent), at + random_.choice((1, 1, 2, 8, 40)))
        match random_.randrange(6):
            case 0:
                del bent[at:until]
            case 1:
                bent[at:at] = random_.choice(TOKENS)
            case 2:
                bent[at:until] = random_.choice(TOKENS)
            case 3:
                bent[at:at] = bent[at:until]
            case 4:
                bent[at:at] = random_.randbytes(random_.choice((1, 2, 8)))
            case _:
                del bent[at:]
    return bytes(bent)


def with_token(random_: random.Random, document: dict[str, Json], token: bytes) -> bytes:
    """Write the document with one of its numbers replaced by a token, which then is no string."""
    text = json.dumps(document).encode()
    number = random_.choice(list(_FRACTION.finditer(text)))
    return text[: number.start()] + token + text[number.end() :]


def deep_text(random_: random.Random) -> tuple[bytes, bool]:
    """Return JSON around the depth limit, to stand two levels deep, and whether it may pass."""
    depth = random_.choice((MAX_DEPTH - 3, MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH, 500, 1100, 20_000))
    left, middle, right = random_.choice(((b"[", b"", b"]"), (b'{"a":', b"1", b"}")))
    beside = random_.choice((b'""', b'"]]]]]]]]]]"', b'"\\"]}]}]}"', b'"\\\\"', b'"' + b"]" * 500 + b'"', b'"\\\\\\""'))
    return b"[%s,%s]" % (beside, left * depth + middle + right * depth), depth + 2 <= MAX_DEPTH


def _bend_object(random_: random.Random, container: dict[str, Json]) -> None:
    key = random_.choice(list(container)) if container else "a"
    match random_.randrange(6):
        case 0:
            container.pop(key, None)
        case 1:
            container[random_.choice(("", "x", "Name", "data", "parameters", "id", "outputs", "\0"))] = _junk(random_)
        case 2:
            container[key.upper()] = container.pop(key, None)
        case 3:
            container[key] = [container.get(key)]
        case _:
            container[key] = _junk(random_)


def _bend_array(random_: random.Random, container: list[Json]) -> None:
    at = random_.randrange(len(container)) if container else 0
    match random_.randrange(7):
        case 0:
            del container[at : at + 1]
        case 1:
            container.insert(at, _junk(random_))
        case 2:
            container.insert(at, copy.deepcopy(container[at]) if container else None)
        case 3:
            container[at : at + 1] = [[*container[at : at + 1]]]
        case 4:
            container.clear()
        case 5:
            random_.shuffle(container)
        case _:
            container[at : at + 1] = [_junk(random_)]


def _somewhere(random_: random.Random, root: dict[str, Json]) -> dict[str, Json] | list[Json]:
    """Walk down from the root and stop anywhere, so that every level is as likely as the next."""
    found: dict[str, Json] | list[Json] = root
    while random_.random() < 0.7:
        values = found.values() if isinstance(found, dict) else found
        below = [value for value in values if isinstance(value, (dict, list))]
        if not below:
            break
        found = random_.choice(below)
    return found


def _junk(random_: random.Random) -> Json:
    return copy.deepcopy(random_.choice(JUNK))
