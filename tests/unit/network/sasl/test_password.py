"""A password: as it was given, or what a function returns for each exchange; nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from aioproducer.errors import AuthenticationError
from aioproducer.network.sasl.exchange import Call
from aioproducer.network.sasl.password import find_password


def found(given: Any, returned: object = None) -> bytes:
    """Return the password that an exchange gets, whose function returns `returned`."""
    steps = find_password(given)
    try:
        call = next(steps)
        assert call == Call(given, "sasl_password")
        steps.send(returned)
    except StopIteration as end:
        password: bytes = end.value
        return password
    raise AssertionError("it went on")


def test_a_text_is_taken_as_its_utf8() -> None:
    assert found("5\N{MICRO SIGN}m \N{GRINNING FACE}") == b"5\xc2\xb5m \xf0\x9f\x98\x80"


def test_a_function_is_asked_for_it() -> None:
    assert found(lambda: "unused", " as it is ") == b" as it is "


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        pytest.param(None, "an object of type NoneType", id="None"),
        pytest.param(b"canary", "an object of type bytes", id="bytes"),
        pytest.param(["canary"], "an object of type list", id="list"),
        pytest.param("", "an empty text", id="empty"),
        pytest.param("canary\udce4", "a text that is not valid in UTF-8", id="surrogate"),
    ],
)
def test_what_is_no_password_is_refused_unseen(returned: object, said: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        found(lambda: "unused", returned)
    assert str(caught.value).startswith(
        f"sasl_password returned {said}, which is no password. Have it return the password as a str"
    )
    assert "canary" not in str(caught.value)
    # A UnicodeEncodeError shows the text that it is about.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
