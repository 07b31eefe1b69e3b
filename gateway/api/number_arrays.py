"""The one long array of numbers in a JSON body, read without a Python object for each; the only user of simdjson.

Takes only what the rest of the reader would read the same; says nothing about the rest, which goes the other way.
"""

from __future__ import annotations

import contextvars

import numpy as np
import simdjson

from gateway.messages import Array

LONG_BYTES = 2048
"""Bodies of this size gain; in shorter ones the second parser costs what it saves."""

LONGEST_BYTES = 1_048_576
"""The parser keeps its memory: some four bytes for each byte of the longest text that it has seen."""

_KEY = b'"data":'

_parser = simdjson.Parser()

_strict = contextvars.copy_context()
"""Where numpy raises an overflow: it keeps that in the context, and entering costs a tenth of np.errstate."""
_strict.run(np.seterr, over="raise")


def cut_numbers(text: bytes) -> tuple[bytes, Array] | None:
    """Take a flat array of numbers under the key `data` out of a JSON text.

    Returns: The text with an empty array in its place, and the numbers, float64 of shape (elements,); None where there
        is not exactly one such key, or anything but numbers behind it. The text itself may still be wrong.
    """
    key_end = text.find(_KEY) + len(_KEY)
    begin = text.find(b"[", key_end)
    end = text.find(b"]", begin) + 1
    if key_end < len(_KEY) or begin < 0 or not end or text[key_end:begin].strip():
        return None
    rest = b"".join((text[:begin], b"[]", text[end:]))
    if rest.count(_KEY) != 1:
        return None
    try:
        # No string can hold the key, its quotes would be escaped: this is its value, up to the first closing bracket.
        array = _parser.parse(text[begin:end])
        numbers = array.as_buffer(of_type="d") if isinstance(array, simdjson.Array) else None
    except (ValueError, TypeError, RuntimeError):
        return None
    return None if numbers is None else (rest, np.frombuffer(numbers, np.float64))


def as_floats(numbers: Array, datatype: str) -> Array | None:
    """Round numbers to FP32 or leave them FP64; None for another datatype, or where one is out of its range."""
    if datatype == "FP64":
        return numbers
    if datatype != "FP32":
        return None
    # The processor notes it by the way. To look at each costs three times the rounding; a sum of squares is 512-bit
    # work of BLAS, and slows down what the processor does next.
    try:
        return _strict.run(numbers.astype, np.float32)
    except FloatingPointError:
        return None
