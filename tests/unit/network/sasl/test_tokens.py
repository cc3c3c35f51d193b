"""Tokens: when one is fetched, who shares it, what is used in an outage, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import json
import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer import AuthenticationError, OAuthToken
from aioproducer.network.sasl.tokens import RefreshWindow, TokenSource, token_source
from tests.support.token_server import oauth_config

EXACT = RefreshWindow(jitter=0.0)
NOW = 1_800_000_000.0


def jwt(**claims: object) -> str:
    def encoded(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{encoded({'alg': 'none'})}.{encoded(claims)}.c2lnbmF0dXJl"


class Provider:
    """Returns `token-1`, `token-2`, ..., each valid for an hour, on a clock that tests move."""

    def __init__(self, life: float | None = 3_600.0) -> None:
        self.life = life
        self.now = NOW
        self.calls = 0
        self.takes = 0.0
        self.error: Exception | None = None
        self.cancelled = 0

    async def __call__(self) -> OAuthToken:
        self.calls += 1
        number = self.calls
        try:
            await asyncio.sleep(self.takes)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return OAuthToken(f"token-{number}", None if self.life is None else self.now + self.life)

    def source(self) -> TokenSource:
        return TokenSource(self, "the provider", refresh=EXACT, now=lambda: self.now)


async def value_of(source: TokenSource) -> str:
    return (await source.get()).value


def returning(result: object, now: float = NOW) -> TokenSource:
    async def provider() -> Any:
        return result

    return TokenSource(provider, "the provider", refresh=EXACT, now=lambda: now)


# ---- when


async def test_a_token_is_used_until_80_percent_of_its_life_are_over() -> None:
    provider = Provider()
    source = provider.source()
    assert await value_of(source) == "token-1"
    provider.now += 2_879
    assert await value_of(source) == "token-1"
    provider.now += 1
    assert await value_of(source) == "token-2"
    assert await value_of(source) == "token-2"
    assert provider.calls == 2


async def test_the_end_and_the_begin_of_a_jwt_are_read_from_its_claims() -> None:
    now = NOW
    tokens = [jwt(iat=NOW - 1_000, exp=NOW + 9_000, n=n) for n in range(2)]

    async def provider() -> str:
        return tokens.pop(0)

    source = TokenSource(provider, "the provider", refresh=EXACT, now=lambda: now)
    first = await value_of(source)
    now = NOW + 6_999  # of 10000 s 80 % after `iat` are over at 7000
    assert await value_of(source) == first
    now = NOW + 7_000
    assert await value_of(source) != first


@pytest.mark.parametrize("token", ["opaque", jwt(sub="alice"), jwt(exp="soon"), "a.b.c"])
async def test_a_token_that_does_not_say_its_end_is_asked_for_anew(token: str) -> None:
    calls = 0

    async def provider() -> str:
        nonlocal calls
        calls += 1
        return token

    source = TokenSource(provider, "the provider")
    assert [await value_of(source), await value_of(source)] == [token, token]
    assert calls == 2


@pytest.mark.parametrize(
    ("life", "due_after"),
    [
        (3_600.0, 2_880.0),  # 80 %
        (1_000.0, 700.0),  # 80 % were within the buffer of 300 s
        (361.0, 61.0),  # the buffer, and just after the least period
        (300.0, 240.0),  # too short for both: 80 %
    ],
)
def test_a_token_is_due_as_in_javas_client(life: float, due_after: float) -> None:
    assert EXACT.due_at(NOW, NOW + life, now=NOW, chance=0.0) == NOW + due_after


def test_a_token_issued_long_ago_is_not_due_before_the_least_period() -> None:
    assert EXACT.due_at(NOW - 10_000, NOW + 1_000, now=NOW, chance=0.0) == NOW + 60


@given(
    age=st.floats(0, 1e6),
    life=st.floats(1e-3, 1e7),
    chance=st.floats(0, 1),
    factor=st.floats(0.5, 1),
    jitter=st.floats(0, 0.25),
    min_period=st.floats(0, 900),
    buffer=st.floats(0, 3_600),
)
def test_a_token_is_due_before_its_end_and_keeps_the_buffer_where_it_can(
    age: float,
    life: float,
    chance: float,
    factor: float,
    jitter: float,
    min_period: float,
    buffer: float,
) -> None:
    window = RefreshWindow(factor=factor, jitter=jitter, min_period=min_period, buffer=buffer)
    due = window.due_at(-age, life, now=0.0, chance=chance)
    if min_period + buffer <= life:
        assert min_period <= due <= max(life - buffer, min_period)
    else:
        assert factor * life <= due * (1 + 1e-9) and due <= (factor + jitter) * life * (1 + 1e-9)


# ---- who


@pytest.mark.virtual_time
async def test_callers_side_by_side_share_one_fetch() -> None:
    provider = Provider()
    provider.takes = 5.0
    source = provider.source()
    assert set(await asyncio.gather(*(value_of(source) for _ in range(50)))) == {"token-1"}
    assert provider.calls == 1


@pytest.mark.virtual_time
async def test_callers_side_by_side_each_get_an_error_of_their_own() -> None:
    provider = Provider()
    provider.takes = 5.0
    provider.error = OSError("no route")
    source = provider.source()
    errors = await asyncio.gather(source.get(), source.get(), return_exceptions=True)
    assert [str(error) for error in errors] == ["The provider failed: OSError: no route."] * 2
    assert errors[0] is not errors[1]
    assert all(isinstance(error, AuthenticationError) for error in errors)


@pytest.mark.virtual_time
async def test_a_caller_that_is_cancelled_does_not_end_the_fetch_of_the_others() -> None:
    provider = Provider()
    provider.takes = 5.0
    source = provider.source()
    leaving, staying = (asyncio.create_task(value_of(source)) for _ in range(2))
    await asyncio.sleep(1)
    leaving.cancel()
    assert await staying == "token-1"
    assert (provider.calls, provider.cancelled) == (1, 0)


@pytest.mark.virtual_time
async def test_the_last_caller_to_leave_ends_the_fetch_and_the_next_begins_another() -> None:
    provider = Provider()
    provider.takes = 5.0
    source = provider.source()
    callers = [asyncio.create_task(value_of(source)) for _ in range(2)]
    await asyncio.sleep(1)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert await value_of(source) == "token-2"
    assert (provider.calls, provider.cancelled) == (2, 1)


async def test_a_provider_does_not_see_the_context_of_the_caller() -> None:
    request_id = contextvars.ContextVar("request_id", default="none")
    seen: list[str] = []

    async def provider() -> str:
        seen.append(request_id.get())
        return "token"

    request_id.set("42")
    await TokenSource(provider, "the provider").get()
    assert seen == ["none"]


async def test_a_provider_that_raises_cancelled_error_is_a_failure_of_the_provider() -> None:
    async def provider() -> str:
        raise asyncio.CancelledError

    with pytest.raises(AuthenticationError, match="The provider was cancelled"):
        await TokenSource(provider, "the provider").get()


# ---- outages


async def test_the_token_at_hand_is_used_while_the_provider_fails_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Provider()
    source = provider.source()
    await source.get()
    provider.error = OSError("no route")
    provider.now += 3_000
    assert [await value_of(source) for _ in range(3)] == ["token-1"] * 3
    assert provider.calls == 2  # asked once more, and then left alone for 10 s
    provider.now += 10
    assert await value_of(source) == "token-1"
    assert provider.calls == 3
    assert [it.levelno for it in caplog.records] == [logging.WARNING]
    assert "valid for 600 s more: The provider failed: OSError: no route" in caplog.text
    assert "token-1" not in caplog.text


async def test_a_second_outage_gets_a_second_warning(caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider()
    source = provider.source()
    for _ in range(2):
        provider.error = None
        await source.get()
        provider.error = OSError("no route")
        provider.now += 3_000
        await source.get()
        provider.now += 10
    assert [it.levelno for it in caplog.records] == [logging.WARNING] * 2


async def test_an_expired_token_is_not_used_in_an_outage() -> None:
    provider = Provider()
    source = provider.source()
    await source.get()
    provider.error = OSError("no route")
    provider.now += 3_600
    with pytest.raises(AuthenticationError, match="no route"):
        await source.get()


async def test_a_token_is_not_used_beyond_its_end_after_a_failed_fetch() -> None:
    provider = Provider()
    source = provider.source()
    await source.get()
    provider.error = OSError("no route")
    provider.now += 3_599
    assert await value_of(source) == "token-1"
    provider.now += 1
    with pytest.raises(AuthenticationError, match="no route"):
        await source.get()


@pytest.mark.virtual_time
async def test_a_slow_provider_is_waited_for_3_seconds_while_a_token_is_valid(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Provider()
    source = provider.source()
    await source.get()
    provider.takes = 100.0
    provider.now += 3_000
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert await value_of(source) == "token-1"
    assert loop.time() - begun == pytest.approx(3.0)
    assert "The provider gave nothing in 3 s" in caplog.text


# ---- refusals


async def test_a_token_that_a_broker_refused_is_not_used_again() -> None:
    source = Provider().source()
    source.refused(await source.get())
    assert await value_of(source) == "token-2"


async def test_the_refusal_of_an_older_token_leaves_the_newer_one() -> None:
    provider = Provider()
    source = provider.source()
    older = await source.get()
    provider.now += 3_000
    await source.get()
    source.refused(older)
    assert await value_of(source) == "token-2"


@pytest.mark.parametrize(
    ("claims", "doubt"),
    [
        (
            {"iat": NOW + 90, "exp": NOW + 900},
            "By this machine's clock the token begins in 90 s only: set the clock of this machine,"
            " or of the identity provider.",
        ),
        (
            {"nbf": NOW + 90},
            "By this machine's clock the token begins in 90 s only: set the clock of this machine,"
            " or of the identity provider.",
        ),
        (
            {"iat": NOW - 900, "exp": NOW - 30},
            "By this machine's clock the token expired 30 s ago: have the provider return a new"
            " one, and check the clock.",
        ),
        (
            {"iss": "https://idp", "aud": ["kafka", "other"], "sub": "alice", "exp": NOW + 9},
            'The token\'s issuer is "https://idp" and its audience is ["kafka", "other"]: compare'
            " with the broker's sasl.oauthbearer.expected.issuer and"
            " sasl.oauthbearer.expected.audience.",
        ),
        (
            {"aud": "kafka"},
            "The token's audience is \"kafka\": compare with the broker's"
            " sasl.oauthbearer.expected.issuer and sasl.oauthbearer.expected.audience.",
        ),
        ({"sub": "alice"}, ""),
    ],
)
def test_a_refused_token_is_explained_by_its_own_claims(
    claims: dict[str, object], doubt: str
) -> None:
    assert returning("unused").doubt(OAuthToken(jwt(**claims))) == doubt


@given(st.text())
def test_any_text_can_be_doubted(text: str) -> None:
    returning("unused").doubt(OAuthToken(text))
    returning("unused").doubt(OAuthToken(f"e30.{text}.e30"))


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "an object of type NoneType, which is no token. Return a text or an OAuthToken."),
        (b"canary", "an object of type bytes, which is no token."),
        ("", "an empty token."),
        (OAuthToken(" "), "an empty token."),
        (OAuthToken(None), "an empty token."),  # type: ignore[arg-type]
        ("canary\n", "RFC 6750 does not allow. Leave out the white space around it, by strip()."),
        ("Bearer canary", "RFC 6750 does not allow. Leave out the word 'Bearer' before it."),
        ("canary\x01auth=x", "RFC 6750 does not allow. Return the token alone."),
        ("canary" * 50_000, "a token of 300000 characters."),
        (OAuthToken("canary", NOW - 5), "a token that expired 5 s ago. Have it return a new one"),
        (jwt(canary="canary", exp=NOW), "a token that expired 0 s ago."),
        (OAuthToken("canary", NOW * 1_000), "Divide it by 1000, if it is in milliseconds."),
        (OAuthToken("canary", math.nan), "expires_at=nan, which is no time"),
        (OAuthToken("canary", -math.inf), "expires_at=-inf, which is no time"),
        (
            OAuthToken("canary", datetime.now(UTC)),  # type: ignore[arg-type]
            "expires_at of type datetime. Give it in seconds since 1970: of a datetime,",
        ),
        (OAuthToken("canary", "60"), "expires_at of type str."),  # type: ignore[arg-type]
        (OAuthToken("canary", extensions=None), "extensions are not texts by name. Return a dict"),  # type: ignore[arg-type]
        (OAuthToken("canary", extensions={"canary": 5}), "extensions are not texts by name."),  # type: ignore[dict-item]
    ],
)
async def test_a_result_that_is_no_valid_token_is_refused_with_what_to_change(
    result: object, said: str
) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await returning(result).get()
    assert str(caught.value).startswith("The provider returned ")
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)


async def test_a_token_may_never_end() -> None:
    assert await value_of(returning(OAuthToken("forever", math.inf))) == "forever"


async def test_extensions_come_with_the_token() -> None:
    token = OAuthToken("token", NOW + 9, {"logicalCluster": "lkc-1"})
    assert await returning(token).get() == token


# ---- of a config


def test_the_options_say_when_a_token_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(TokenSource, "__init__", lambda self, *args, **kw: made.update(kw))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    provider: Callable[[], str] = lambda: "token"  # noqa: E731
    token_source(
        oauth_config(
            sasl_oauthbearer_token_endpoint_url=None,
            sasl_oauth_token_provider=provider,
            sasl_login_refresh_window_factor=0.6,
            sasl_login_refresh_window_jitter=0.1,
            sasl_login_refresh_min_period_seconds=5,
            sasl_login_refresh_buffer_seconds=7,
        )
    )
    assert made == {"refresh": RefreshWindow(factor=0.6, jitter=0.1, min_period=5, buffer=7)}


def test_the_source_is_named_by_the_option_or_by_the_endpoint() -> None:
    def what(**options: Any) -> str:
        return token_source(oauth_config(**options)).what

    assert (
        what(
            sasl_oauth_token_provider=lambda: "token",
            sasl_oauthbearer_token_endpoint_url=None,
        )
        == "sasl_oauth_token_provider"
    )
    assert (
        what(
            sasl_oauthbearer_token_endpoint_url="https://idp.example/token?tenant=canary",
            sasl_oauthbearer_client_credentials_client_id="id",
            sasl_oauthbearer_client_credentials_client_secret="secret",
        )
        == "the token endpoint https://idp.example/token"
    )
