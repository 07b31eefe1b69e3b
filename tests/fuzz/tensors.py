"""Owns cases of inference requests in JSON: documents, text, shapes, datatypes, data, parameters, outputs.

Leaves HTTP alone.
"""

from __future__ import annotations

import json

from tests.fuzz.cases import (
    LENIENT,
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_QUEUE_ROWS,
    MAX_TENSOR_ELEMENTS,
    OK,
    TOO_LARGE,
    WRONG,
    Case,
    Json,
)
from tests.fuzz.documents import JUNK, TOKENS, bent_document, bent_text, deep_text, with_token
from tests.fuzz.draw import Draw

SIZES: list[Json] = [
    *(-1, 0, 1, 2, 3, 7, 64, 65, MAX_QUEUE_ROWS, MAX_QUEUE_ROWS + 1, MAX_TENSOR_ELEMENTS, MAX_TENSOR_ELEMENTS + 1),
    *(2**31 - 1, 2**31, 2**31 + 1, 2**32, 2**63 - 1, 2**63, 2**64, 10**30),
    *(1.0, 1.5, -0.0, True, None, "1", "x"),
    [1],
    [],
    {},
]
DATATYPES: list[Json] = [
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64"),
    *("BYTES", "fp32", "FP32 ", "", "STRING", "TYPE_FP32", "FP8", "float", "\0", "é", "FP32" * 100),
    *(None, 32),
    ["FP32"],
    {},
]
NO_JSON = [
    *(b"", b"{}", b"[]", b"null", b"1", b'"x"', b"{", b'{"inputs"', b" ", b"a=b", b'{"inputs": []}'),
    *(b"\x00", b"\xff\xfe{\x00", b"\xef\xbb\xbf{}"),
]


def document(draw: Draw) -> Case:
    """Change the document somewhere."""
    model = draw.model()
    return draw.json(model, bent_document(draw.random, draw.document(model))).case("somewhere", LENIENT)


def text(draw: Draw) -> Case:
    """Change its text somewhere."""
    model = draw.model()
    body = bent_text(draw.random, json.dumps(draw.document(model)).encode())
    return draw.infer(model, body).case("somewhere", LENIENT)


def token(draw: Draw) -> Case:
    """Write something else for a number."""
    model = draw.model()
    instead = draw.random.choice(TOKENS)
    return draw.infer(model, with_token(draw.random, model.document(), instead)).case(f"{instead[:20]!r}", LENIENT)


def depth(draw: Draw) -> Case:
    """Nest an unknown key's value up to the limit and beyond."""
    model = draw.model()
    value, is_allowed = deep_text(draw.random)
    body = b'{"extra": %s, %s' % (value, json.dumps(model.document()).encode()[1:])
    return draw.infer(model, body).case("an unknown key", OK if is_allowed else WRONG)


def data_depth(draw: Draw) -> Case:
    """Nest data deeper than its shape."""
    model = draw.model()
    levels = draw.random.choice((3, 10, MAX_DEPTH - 3, MAX_DEPTH, 500, 1100, 20_000))
    start = b'"data": ['
    body = json.dumps(model.document()).encode().replace(start, start + b"[" * levels + b"]" * levels + b", ", 1)
    return draw.infer(model, body).case(f"{levels} levels", WRONG)


def no_request(draw: Draw) -> Case:
    """Send what is no inference request at all."""
    body = draw.random.choice(NO_JSON)
    return draw.infer(draw.model(), body).case(repr(body), WRONG)


def many(draw: Draw) -> Case:
    """Repeat something often: keys, inputs, outputs, brackets, quotes."""
    model = draw.model()
    times = draw.random.choice((100, 5000, 50_000))
    whole = json.dumps(model.document()).encode()
    first = json.dumps(model.inputs[0].as_json()).encode()
    body, what = draw.random.choice(
        (
            (b"{" + b'"id": "a", ' * times + whole[1:], "ids"),
            (b'{"inputs": [' + b", ".join([first] * min(times, 100)) + b"]}", "inputs"),
            (whole[:-1] + b', "outputs": [' + b", ".join([b'{"name": "label"}'] * times) + b"]}", "outputs"),
            (whole[:-1] + b', "x": [' + b"[], " * times + b"1]}", "empty arrays"),
            (whole[:-1] + b', "x": "' + b"[{" * times + b'"}', "brackets in a string"),
            (whole[:-1] + b', "x": "' + b'\\\\\\"[' * times + b'"}', "escapes in a string"),
            (b"[" * 65 + b'"' + b'\\"' * times, "escaped quotes without an end"),
            (b"[" * 65 + b'"",' * times, "empty strings"),
            (whole + b" " * times, "spaces"),
            (whole + b"]" * times, "closing brackets"),
        )
    )
    return draw.infer(model, body).case(f"{times} {what}", LENIENT)


def predict(draw: Draw) -> Case:
    """Ask as TensorFlow Serving's clients do, and change the document somewhere."""
    model = draw.model()
    message = model.predict_document(by_rows=draw.chance(0.5))
    is_right = draw.chance(0.2)
    body = json.dumps(message if is_right else bent_document(draw.random, message)).encode()
    if not is_right and draw.chance(0.3):
        body = bent_text(draw.random, body)
    draft = draw.infer(model, body)
    draft.target = f"/v1/models/{model.name}:predict".encode()
    return draft.case("right" if is_right else "somewhere", OK if is_right else LENIENT)


def shape(draw: Draw) -> Case:
    """Write another shape."""
    model = draw.model()
    message = draw.document(model)
    tensor = draw.input_of(message)
    sizes = tensor["shape"]
    assert isinstance(sizes, list)
    match draw.random.randrange(6):
        case 0:
            tensor["shape"] = draw.random.choice((*SIZES, *JUNK))
        case 1:
            tensor["shape"] = [draw.random.choice(SIZES) for _ in range(draw.random.choice((0, 1, 2, 4, 32, 33, 65)))]
        case 2:
            tensor["shape"] = [0, *[2**31] * draw.random.choice((1, 2, 5, 31))]
            tensor["data"] = []
        case 3:
            tensor["shape"] = [*sizes, *[1] * draw.random.choice((1, 30, 31, 62, 100))]
        case 4:
            tensor["shape"] = sizes[::-1]
        case _:
            sizes[draw.random.randrange(len(sizes))] = draw.random.choice(SIZES)
    return draw.json(model, message).case(f"{str(tensor['shape'])[:60]}", LENIENT)


def datatype(draw: Draw) -> Case:
    """Write another datatype."""
    model = draw.model()
    message = draw.document(model)
    tensor = draw.input_of(message)
    right = tensor["datatype"]
    tensor["datatype"] = draw.random.choice(DATATYPES)
    is_right = tensor["datatype"] == right
    return draw.json(model, message).case(str(tensor["datatype"])[:30], OK if is_right else WRONG)


def nesting(draw: Draw) -> Case:
    """Write the data nested as the shape says, or not quite."""
    model = draw.model()
    message = draw.document(model)
    tensor = draw.input_of(message)
    (right,) = (entry for entry in model.inputs if entry.name == tensor["name"])
    data = level = right.nested()
    while draw.chance(0.6) and isinstance(below := draw.random.choice(level), list):
        level = below
    change = draw.random.choice(("none", "one more", "one less", "deeper", "an empty array"))
    match change:
        case "one more":
            level.append(level[0])
        case "one less":
            level.pop()
        case "deeper":
            level[0] = [level[0]]
        case "an empty array":
            level.append([])
        case _:
            pass
    tensor["data"] = data
    return draw.json(model, message).case(change, OK if change == "none" else WRONG)


def count(draw: Draw) -> Case:
    """Send more or fewer elements than the shape says."""
    model = draw.model()
    message = draw.document(model)
    tensor = draw.input_of(message)
    data = tensor["data"]
    assert isinstance(data, list)
    off = draw.random.choice((-1, 1, 2, len(data)))
    tensor["data"] = [*data, *data[:off]] if off > 0 else data[:off]
    return draw.json(model, message).case(f"{off:+} elements", WRONG)


def rows(draw: Draw) -> Case:
    """Send no rows, many, as many as the queue holds, and one more."""
    model = draw.model()
    number = draw.random.choice((0, 1, 2, 63, 64, 65, 200, MAX_QUEUE_ROWS, MAX_QUEUE_ROWS + 1))
    inputs = tuple(tensor.repeated(number) for tensor in model.inputs)
    message: dict[str, Json] = {"inputs": [tensor.as_json() for tensor in inputs]}
    has_many = number > MAX_QUEUE_ROWS or any(len(tensor.elements) > MAX_TENSOR_ELEMENTS for tensor in inputs)
    is_too_large = has_many or len(json.dumps(message)) > MAX_BODY_BYTES
    return draw.json(model, message).case(f"{number} rows", TOO_LARGE if is_too_large else OK)


def elements(draw: Draw) -> Case:
    """Claim as many elements as are taken, and more, in very few bytes."""
    model = draw.model()
    message = draw.document(model)
    claimed = draw.random.choice((MAX_TENSOR_ELEMENTS, MAX_TENSOR_ELEMENTS + 1, 2**31))
    draw.input_of(message)["shape"] = [claimed]
    is_too_large = claimed > MAX_TENSOR_ELEMENTS
    return draw.json(model, message).case(f"{claimed} claimed", TOO_LARGE if is_too_large else WRONG)


def parameters(draw: Draw) -> Case:
    """Give a parameter a value."""
    model = draw.model()
    message = draw.document(model)
    key = draw.random.choice(
        (
            "timeout",
            "timeout",
            "priority",
            "routing_key",
            "binary_data_output",
            "sequence_id",
            "triton_x",
            "headers",
            "",
        )
    )
    value = draw.random.choice((*JUNK, *SIZES))
    message["parameters"] = {key: value}
    return draw.json(model, message).case(f"{key}={str(value)[:30]}", OK | WRONG | {504})


def outputs(draw: Draw) -> Case:
    """Ask for some outputs, with parameters."""
    model = draw.model()
    message = draw.document(model)
    names: list[Json] = [*model.outputs, *model.outputs, "unknown", "", "\0", None, 1, [], "é"]
    values: list[Json] = [True, False, 0, 1, "x", None, 1.5, [], {}]
    wanted: list[Json] = []
    for _ in range(draw.random.choice((0, 1, 1, 2, 3))):
        output: dict[str, Json] = {"name": draw.random.choice(names)}
        if draw.chance(0.6):
            key = draw.random.choice(("binary_data", "classification", "shared_memory_region", "x"))
            output["parameters"] = {key: draw.random.choice(values)}
        wanted.append(output)
    message["outputs"] = draw.random.choice((wanted, wanted, wanted, None, {}, "label"))
    return draw.json(model, message).case("some", OK | WRONG)
