import pytest

from loadtests.addresses import refusal


@pytest.mark.parametrize("target", ["http://127.0.0.1:8000", "http://127.9.9.9", "http://[::1]:8000"])
def test_this_machine_may_be_loaded(target: str) -> None:
    assert refusal(target, is_remote_allowed=False) is None


def test_another_machine_may_be_loaded_only_when_that_is_meant() -> None:
    said = refusal("http://192.0.2.7:8000", is_remote_allowed=False)
    assert said == "--host http://192.0.2.7:8000: 192.0.2.7 is not this machine; --allow-remote says that this is meant"
    assert refusal("http://192.0.2.7:8000", is_remote_allowed=True) is None


@pytest.mark.parametrize("target", [None, "", "localhost:8000", "ftp://127.0.0.1"])
def test_what_is_no_http_address_is_refused_always(target: str | None) -> None:
    for allowed in (True, False):
        assert "expected a URL" in (refusal(target, is_remote_allowed=allowed) or "")
