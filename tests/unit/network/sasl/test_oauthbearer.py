"""OAUTHBEARER: what is made of a broker's refusal."""

from __future__ import annotations

import pytest

from aioproducer.errors import AuthenticationError
from aioproducer.network.sasl.oauthbearer import OAuthBearer
from aioproducer.network.sasl.tokens import TokenSource
from tests.unit.network.sasl.driving import advance


@pytest.mark.parametrize(
    ("challenge", "said"),
    [
        (b'{"status":"invalid_token","scope":"kafka"}', "refused the token: 'invalid_token'"),
        (b"{}", "refused the token"),
        (b"no json", "refused the token"),
        (b"[1]", "refused the token"),
        # Deeper than Python's parser goes.
        (b"[" * 200_000, "refused the token"),
    ],
)
def test_a_refusal_is_told_whatever_the_broker_says(challenge: bytes, said: str) -> None:
    exchange = OAuthBearer(TokenSource(lambda: "token", "the provider"), {}).exchange("kafka")
    assert advance(exchange) == b"n,,\x01auth=Bearer token\x01\x01"
    # So that the broker ends the exchange with its error.
    assert advance(exchange, challenge) == b"\x01"
    with pytest.raises(AuthenticationError, match="The broker " + said):
        advance(exchange, b"")
