import pytest

from loadtests.bench.responses import MalformedResponse, read_framing

BODY = b'{"outputs": []}'
ANSWERS = {
    "lower case": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n" + BODY,
    "upper case": b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nServer: other\r\n\r\n" + BODY,
    "no space": b"HTTP/1.1 200 OK\r\ncontent-length:15\r\n\r\n" + BODY,
    "binary head first": (
        b"HTTP/1.1 200 OK\r\ninference-header-content-length: 7\r\ncontent-length: 15\r\nx-request-id: 1\r\n\r\n" + BODY
    ),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_is_framed_the_same_wherever_the_network_cut_it(answer: bytes) -> None:
    head_bytes = answer.index(b"\r\n\r\n") + 4
    for cut in range(len(answer) + 1):
        framing = read_framing(answer[:cut], cut)
        if cut < head_bytes:
            assert framing is None
        else:
            assert framing == (200, head_bytes, len(answer))


def test_bytes_of_an_earlier_answer_beyond_the_filled_part_are_not_read() -> None:
    """The client reuses one buffer: what lies behind the received bytes is old."""
    answer = ANSWERS["lower case"]
    buffer = bytearray(b"HTTP/1.1 200 OK\r\nx: y") + answer
    assert read_framing(buffer, 21) is None


def test_the_status_of_a_refusal_is_read() -> None:
    framing = read_framing(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", 55)
    assert framing is not None
    assert framing.status == 503


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 abc\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ninference-header-content-length: 7\r\n\r\n",
    ],
)
def test_an_answer_that_cannot_be_framed_is_refused_and_not_guessed(head: bytes) -> None:
    with pytest.raises(MalformedResponse):
        read_framing(head, len(head))
