"""Owns cases of inference requests that are not plain JSON: binary tensors, raw bodies, compressed bodies.

Leaves the rest of HTTP alone.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from functools import cache

from tests.fuzz.cases import LENIENT, MAX_BODY_BYTES, OK, TOO_LARGE, WRONG, Case, Json, ModelUnderTest
from tests.fuzz.documents import bent_document
from tests.fuzz.draw import LENGTH, Draw

UNSUPPORTED = frozenset({415})
ENCODINGS = [
    *(b"br", b"zstd", b"compress", b"x-gzip", b"gzip, deflate", b"gzip,gzip", b"*", b"\xff", b"gzip;q=1", b"GZIPS"),
    b"a" * 500,
]
ENCODING = b"content-encoding"


def right(draw: Draw) -> Case:
    """Send all tensors in binary."""
    model = draw.model()
    body, length = model.binary(ask_binary=draw.chance(0.5))
    return draw.infer(model, body, length).case("right", OK)


def header_length(draw: Draw) -> Case:
    """Announce a JSON part of another length, or no length."""
    model = draw.model()
    body, length = model.binary()
    value = draw.random.choice(
        (
            *(
                b"-1",
                b"+%d" % length,
                b"x",
                b"",
                b"1e3",
                b"0x10",
                b"%d.0" % length,
                b"%dx" % length,
                b"\xb2",
                b"9" * 19,
            ),
            *(
                b"%d" % (len(body) + 1),
                b"%d" % (2**31),
                b"%d" % (2**63),
                b"%d" % (length - 1),
                b"%d" % (length + 1),
                b"1",
            ),
        )
    )
    draft = draw.infer(model, body)
    draft.headers.append((LENGTH, value))
    return draft.case(f"{value.decode('latin-1')} of {length}", WRONG)


def two_header_lengths(draw: Draw) -> Case:
    """Announce two lengths, the right one among them."""
    model = draw.model()
    body, length = model.binary()
    draft = draw.infer(model, body, length)
    other = draw.random.choice((length, 0, 5, len(body)))
    draft.headers.insert(draw.random.randrange(2), (LENGTH, b"%d" % other))
    return draft.case(f"{other} and {length}", OK | WRONG)


def size(draw: Draw) -> Case:
    """Declare a tensor's size as it is not."""
    model = draw.model()
    document = described(model)
    parameters = draw.input_of(document)["parameters"]
    assert isinstance(parameters, dict)
    real = parameters["binary_data_size"]
    assert isinstance(real, int)
    sizes: list[Json] = [real - 1, real + 1, 0, -1, 2**31, 2**64, 1.5, float(real), "4", True, [], {}]
    claimed = draw.random.choice(sizes)
    parameters["binary_data_size"] = claimed
    body, length = with_data(document, model)
    return draw.infer(model, body, length).case(f"{claimed} for {real}", WRONG)


def cut(draw: Draw) -> Case:
    """Send fewer bytes than declared, or more."""
    model = draw.model()
    body, length = model.binary()
    change = draw.random.choice((-1, -3, length - len(body), 1, 4, 1000))
    body = body[:change] if change < 0 else body + bytes(change)
    return draw.infer(model, body, length).case(f"{change:+} bytes", WRONG)


def mixed(draw: Draw) -> Case:
    """Send some tensors in JSON and some in binary, one of them perhaps both ways."""
    model = draw.model()
    inputs: list[Json] = []
    chunks = []
    is_right = True
    for tensor in model.inputs:
        if draw.chance(0.5):
            inputs.append(tensor.as_json())
            continue
        entry = tensor.as_binary_json()
        if draw.chance(0.2):
            entry["data"] = draw.random.choice((None, []))
            is_right = is_right and entry["data"] is None
        inputs.append(entry)
        chunks.append(tensor.as_bytes())
    text = json.dumps({"inputs": inputs}).encode()
    return draw.infer(model, text + b"".join(chunks), len(text)).case("some of each", OK if is_right else WRONG)


def document(draw: Draw) -> Case:
    """Change the JSON part somewhere."""
    model = draw.model()
    body, length = with_data(bent_document(draw.random, described(model)), model)
    return draw.infer(model, body, length).case("somewhere", LENIENT)


def strings(draw: Draw) -> Case:
    """Break the framing of strings: lengths that overrun, too few, too many, no text."""
    model = next(model for model in draw.models if model.inputs[0].datatype == "BYTES")
    tensor = model.inputs[0]
    count = len(tensor.elements)
    chunk = draw.random.choice(
        (
            struct.pack("<I", 2**32 - 1) + b"x",
            struct.pack("<I", 5) + b"abcd",
            b"\0\0\0",
            struct.pack("<I", 0) * (count + 1),
            struct.pack("<I", 0) * count + b"x",
            struct.pack("<I", 2) + b"\xff\xfe",
            struct.pack("<I", 3) + b"\xed\xa0\x80",
            b"",
            b"\xff" + draw.random.randbytes(11),
        )
    )
    inputs: list[Json] = [tensor.as_binary_json(len(chunk)), *(other.as_json() for other in model.inputs[1:])]
    text = json.dumps({"inputs": inputs}).encode()
    return draw.infer(model, text + chunk, len(text)).case(repr(chunk[:12]), WRONG)


def raw(draw: Draw) -> Case:
    """Send nothing but data, of any size."""
    model = draw.model()
    number = draw.random.choice((0, 1, 3, 4, 8, 120, 240, 256, 257, 4096, 131_072, MAX_BODY_BYTES))
    body = (draw.random.randbytes(64) * (number // 64 + 1))[:number]
    return draw.infer(model, body, 0).case(f"{number} bytes for {model.name}", LENIENT)


def raw_right(draw: Draw) -> Case:
    """Send nothing but the data of a good request; it must be the only input."""
    model = draw.model()
    body = b"".join(tensor.as_bytes() for tensor in model.inputs)
    return draw.infer(model, body, 0).case(model.name, OK if len(model.inputs) == 1 else WRONG)


def compressed(draw: Draw) -> Case:
    """Compress a good request, and perhaps ask for a compressed answer."""
    model = draw.model()
    body, length = model.binary()
    draft = draw.infer(model, draw.random.choice((gzipped, zlib.compress))(body), length)
    encoding = draw.random.choice((b"gzip", b"deflate", b"GZIP", b"Deflate"))
    draft.headers.append((ENCODING, encoding))
    if draw.chance(0.5):
        accepted = draw.random.choice((b"gzip", b"deflate", b"gzip, deflate, br", b"*"))
        draft.headers.append((b"accept-encoding", accepted))
    return draft.case(encoding.decode(), OK)


def corrupt(draw: Draw) -> Case:
    """Break a compressed body."""
    model = draw.model()
    body, length = model.binary()
    packed = bytearray(draw.random.choice((gzipped, zlib.compress))(body))
    change = draw.random.choice(("cut", "more", "first byte", "last byte", "twice", "raw"))
    match change:
        case "cut":
            del packed[draw.random.randrange(len(packed)) :]
        case "more":
            packed += draw.random.randbytes(draw.random.choice((1, 8, 100)))
        case "first byte":
            packed[0] ^= 0x55
        case "last byte":
            packed[-1] ^= 0x55
        case "twice":
            packed = bytearray(gzipped(bytes(packed)))
        case _:
            packed = bytearray(zlib.compress(body)[2:-4])
    draft = draw.infer(model, bytes(packed), length)
    draft.headers.append((ENCODING, draw.random.choice((b"gzip", b"deflate"))))
    return draft.case(change, WRONG)


def flipped(draw: Draw) -> Case:
    """Turn one bit of a compressed body over; some bits of gzip's header mean nothing."""
    model = draw.model()
    packed = bytearray(gzipped(json.dumps(model.document()).encode()))
    packed[draw.random.randrange(len(packed))] ^= 1 << draw.random.randrange(8)
    draft = draw.infer(model, bytes(packed))
    draft.headers.append((ENCODING, b"gzip"))
    return draft.case("a bit", OK | WRONG)


def not_compressed(draw: Draw) -> Case:
    """Announce an encoding that the body does not have."""
    draft = draw.draft()
    encoding = draw.random.choice((b"gzip", b"deflate"))
    draft.headers.append((ENCODING, encoding))
    return draft.case(encoding.decode(), WRONG)


def unknown_encoding(draw: Draw) -> Case:
    """Announce an encoding that is not known."""
    draft = draw.draft()
    encoding = draw.random.choice(ENCODINGS)
    draft.headers.append((ENCODING, encoding))
    return draft.case(encoding.decode("latin-1")[:20], UNSUPPORTED)


def bomb(draw: Draw) -> Case:
    """Send few bytes that inflate to more than is taken."""
    megabytes = draw.random.choice((1, 1, 16, 256))
    draft = draw.infer(draw.model(), zeros(megabytes))
    draft.headers.append((ENCODING, draw.random.choice((b"gzip", b"deflate"))))
    return draft.case(f"{megabytes} MB", TOO_LARGE)


def described(model: ModelUnderTest) -> dict[str, Json]:
    """Write the JSON part of a request with all tensors in binary."""
    return {"inputs": [tensor.as_binary_json() for tensor in model.inputs]}


def with_data(document: dict[str, Json], model: ModelUnderTest) -> tuple[bytes, int]:
    """Write a JSON part and the data behind it."""
    text = json.dumps(document).encode()
    return text + b"".join(tensor.as_bytes() for tensor in model.inputs), len(text)


def gzipped(body: bytes) -> bytes:
    """Compress without the time of day, which would make every run another one."""
    return gzip.compress(body, mtime=0)


@cache
def zeros(megabytes: int) -> bytes:
    """Return a body's limit of zeros that many times, and one more byte, compressed."""
    return gzip.compress(bytes(megabytes * MAX_BODY_BYTES + 1), compresslevel=1, mtime=0)
