"""The bearer tokens of one producer: fetched when due, and shared by all of its connections.

    state     the token kept       what `get` returns
    empty     none                 a new one, when it is fetched
    fresh     is not due           the one kept, at once
    due       is due, but valid    a new one; the one kept if the fetch fails or takes seconds, and
                                   then for a while, so that not every connection asks again
    expired   is at its end        as empty

`refused` leads from each state to empty. A token that does not say when it ends is not kept.

Invariants
* One fetch runs at a time, and its result, or its error, is that of all who wait for it. It is
  cancelled when the last of them leaves. A plain function cannot be: the next fetch waits for the
  same call, so that a function that hangs holds one thread.
* A token is checked before it is kept or returned. Its claims are read without being verified, to
  know its end and to explain a refusal; no error shows the token, or other claims than `iss` and
  `aud`.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import math
import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from aioproducer.background import Background, start_in_thread
from aioproducer.config import ProducerConfig
from aioproducer.errors import AuthenticationError, KafkaError
from aioproducer.errors.base import seconds
from aioproducer.hooks import OAuthToken, OAuthTokenProvider

__all__ = ["RefreshWindow", "TokenSource", "token_source"]

logger = logging.getLogger(__name__)

_PATIENCE: Final = 3.0
"""Seconds for which a new token is waited for while the one kept is valid."""
_ASK_AGAIN: Final = 10.0
"""Seconds for which the token kept is used after a failed fetch, as in Java's client."""
_LONGEST: Final = 256 * 1024
"""Characters of a token; a broker takes no longer SASL message by default (512 KiB)."""
_MILLISECONDS: Final = 1e11
"""As seconds since 1970, a moment in the year 5138: such a number is one of milliseconds."""
_B64TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What RFC 6750 allows."""


def token_source(config: ProducerConfig) -> TokenSource:
    """Make the source of a config: the user's provider, or the built-in one.

    Raises:
        ConfigError: The options of the built-in one do not fit together.
    """
    provider = config.sasl_oauth_token_provider
    what = "sasl_oauth_token_provider"
    if provider is None:
        from aioproducer.network.sasl.oidc import oidc_provider  # HTTP, for those who use it

        provider, what = oidc_provider(config)
    refresh = RefreshWindow(
        factor=config.sasl_login_refresh_window_factor,
        jitter=config.sasl_login_refresh_window_jitter,
        min_period=config.sasl_login_refresh_min_period_seconds,
        buffer=config.sasl_login_refresh_buffer_seconds,
    )
    return TokenSource(provider, what, refresh=refresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshWindow:
    """When a token is due, as in Java's ExpiringCredentialRefreshingLogin.

    Attributes:
        factor: The share of its life after which it is due.
        jitter: The most that is added to this share by chance.
        min_period: The least time until it is due, in seconds.
        buffer: The least time from then to its end, in seconds; ignored, as is `min_period`, if
            the token does not live for both.
    """

    factor: float = 0.8
    jitter: float = 0.05
    min_period: float = 60.0
    buffer: float = 300.0

    def due_at(self, begins_at: float, ends_at: float, *, now: float, chance: float) -> float:
        """Return when a token is due, in seconds since 1970, as all instants here.

        Args:
            begins_at: When it was issued.
            ends_at: When it expires.
            now: The time.
            chance: Where between none and all of the jitter, from 0 to 1.
        """
        share = self.factor + self.jitter * chance
        if now + self.min_period + self.buffer > ends_at:
            return now + (ends_at - now) * share
        proposed = begins_at + (ends_at - begins_at) * share
        return max(min(proposed, ends_at - self.buffer), now + self.min_period)


class _Kept(NamedTuple):
    token: OAuthToken
    due_at: float
    ends_at: float


class _Fetch:
    """A fetch that runs, and how many wait for it."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[OAuthToken]) -> None:
        self.task = task
        self.waiting = 0


class TokenSource:
    """Gets tokens from a provider, and keeps one until it is due.

    Args:
        provider: Returns tokens.
        what: The provider for a reader, as the subject of a sentence.
        refresh: When a token is due.
        now: The time, in seconds since 1970.

    Attributes:
        what: As given.
    """

    def __init__(
        self,
        provider: OAuthTokenProvider,
        what: str,
        *,
        refresh: RefreshWindow | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.what = what
        self._provider = provider
        self._refresh = refresh or RefreshWindow()
        self._now = now
        self._kept: _Kept | None = None
        self._fetch: _Fetch | None = None
        self._call: asyncio.Future[Any] | None = None
        self._is_out = False

    async def get(self) -> OAuthToken:
        """Return a valid token.

        Raises:
            AuthenticationError: The provider failed, or what it returned cannot be used.
            ConfigError: An option of the built-in provider cannot be used.
        """
        if self._kept is not None and self._now() < self._kept.due_at:
            return self._kept.token
        patience = _PATIENCE if self._spare() is not None else None
        fetch = self._fetch or self._begin()
        fetch.waiting += 1
        try:
            await asyncio.wait([fetch.task], timeout=patience)
        finally:
            fetch.waiting -= 1
            if not fetch.waiting and not fetch.task.done():
                fetch.task.cancel()
                self._fetch = None
        error = self._error(fetch.task)
        if error is None:
            return fetch.task.result()
        if (spare := self._spare()) is None:
            raise error.again() from error.__cause__
        self._go_on_with(spare, error)
        return spare.token

    def refused(self, token: OAuthToken) -> None:
        """A broker refused a token: do not use it again, unless the provider returns it again."""
        if self._kept is not None and self._kept.token.value == token.value:
            self._kept = None

    def doubt(self, token: OAuthToken) -> str:
        """What may be wrong with a token that a broker refused, as a sentence; may be empty."""
        claims = _claims(token.value)
        now = self._now()
        begins_at = max(_instant(claims, "iat") or 0.0, _instant(claims, "nbf") or 0.0)
        ends_at = _instant(claims, "exp")
        if begins_at > now + 1:
            return (
                f"By this machine's clock the token begins in {seconds(begins_at - now)} only:"
                " set the clock of this machine, or of the identity provider."
            )
        if ends_at is not None and ends_at <= now:
            return (
                f"By this machine's clock the token expired {seconds(now - ends_at)} ago: have the"
                " provider return a new one, and check the clock."
            )
        named = [
            f"{name} is {json.dumps(claims[claim])[:200]}"
            for claim, name in (("iss", "issuer"), ("aud", "audience"))
            if claim in claims
        ]
        if not named:
            return ""
        return (
            f"The token's {' and its '.join(named)}: compare with the broker's"
            " sasl.oauthbearer.expected.issuer and sasl.oauthbearer.expected.audience."
        )

    # ---- one fetch

    def _begin(self) -> _Fetch:
        background = Background(asyncio.get_running_loop())
        task = background.create_task(self._fetch_token(), name="aioproducer-token")
        task.add_done_callback(_retrieve)
        self._fetch = _Fetch(task)
        return self._fetch

    async def _fetch_token(self) -> OAuthToken:
        try:
            return self._keep(await self._ask())
        except KafkaError:
            raise
        except Exception as error:
            raise AuthenticationError(
                f"{self._subject()} failed: {type(error).__name__}: {str(error)[:500]}".rstrip(": ")
            ) from error
        finally:
            if self._fetch is not None and self._fetch.task is asyncio.current_task():
                self._fetch = None

    async def _ask(self) -> object:
        provider: Callable[[], Any] = self._provider
        if inspect.iscoroutinefunction(provider) or inspect.iscoroutinefunction(
            getattr(provider, "__call__", None)  # noqa: B004
        ):
            return await provider()
        call = self._call
        if call is None:
            call = self._call = start_in_thread(provider, name="aioproducer-token")
            call.add_done_callback(self._called)
        # By `wait` the call goes on when this fetch is cancelled.
        await asyncio.wait([call])
        result = call.result()
        return await result if inspect.isawaitable(result) else result

    def _called(self, call: asyncio.Future[Any]) -> None:
        """A plain function is over; if nobody waits any more, keep what it returned."""
        self._call = None
        if call.cancelled() or call.exception() is not None or self._fetch is not None:
            return
        result = call.result()
        if inspect.iscoroutine(result):
            result.close()
            return
        # Nobody is left to hear that it cannot be used.
        with suppress(Exception):
            self._keep(result)

    def _keep(self, result: object) -> OAuthToken:
        """Check what the provider returned, and keep it if it says when it ends."""
        token = self._checked(result)
        now = self._now()
        claims = _claims(token.value)
        ends_at = _instant(claims, "exp") if token.expires_at is None else token.expires_at
        if ends_at is not None and ends_at <= now:
            raise AuthenticationError(
                f"{self._subject()} returned a token that expired {seconds(now - ends_at)} ago",
                hint="Have it return a new one, and check the clock of this machine.",
            )
        self._kept = None
        if ends_at is not None:
            begins_at = min(_instant(claims, "iat") or now, now)
            due_at = self._refresh.due_at(begins_at, ends_at, now=now, chance=random.random())
            self._kept = _Kept(token, due_at, ends_at)
        if self._is_out:
            self._is_out = False
            logger.info("%s gives tokens again", self._subject())
        return token

    def _checked(self, result: object) -> OAuthToken:
        token = OAuthToken(result) if isinstance(result, str) else result
        if not isinstance(token, OAuthToken):
            raise self._unusable(
                f"an object of type {type(result).__name__}, which is no token",
                "Return a text or an OAuthToken.",
            )
        value = cast(object, token.value)
        if not isinstance(value, str) or not value.strip():
            raise self._unusable("an empty token", "Check where it comes from.")
        if len(value) > _LONGEST:
            raise self._unusable(f"a token of {len(value)} characters", "Check where it is from.")
        if not _B64TOKEN.fullmatch(value):
            advice = "Return the token alone."
            if value.lower().startswith("bearer "):
                advice = "Leave out the word 'Bearer' before it."
            elif value != value.strip():
                advice = "Leave out the white space around it, by strip()."
            raise self._unusable("a token with characters that RFC 6750 does not allow", advice)
        self._check_end(token.expires_at)
        extensions = cast("Mapping[object, object] | None", token.extensions)
        if not isinstance(extensions, Mapping) or not all(
            isinstance(text, str) for pair in extensions.items() for text in pair
        ):
            raise self._unusable(
                "a token whose extensions are not texts by name",
                "Return a dict of texts, or leave extensions out.",
            )
        return token

    def _check_end(self, ends_at: object) -> None:
        if ends_at is None:
            return
        if isinstance(ends_at, bool) or not isinstance(ends_at, int | float):
            raise self._unusable(
                f"a token with expires_at of type {type(ends_at).__name__}",
                "Give it in seconds since 1970: of a datetime, timestamp() returns that.",
            )
        if not ends_at > -math.inf or _MILLISECONDS < ends_at < math.inf:
            raise self._unusable(
                f"a token with expires_at={ends_at:g}, which is no time in seconds since 1970",
                "Divide it by 1000, if it is in milliseconds.",
            )

    def _unusable(self, what: str, hint: str) -> AuthenticationError:
        return AuthenticationError(f"{self._subject()} returned {what}", hint=hint)

    def _subject(self) -> str:
        # An option's name keeps its case.
        return self.what[:1].upper() + self.what[1:] if " " in self.what else self.what

    # ---- without a new token

    def _error(self, task: asyncio.Task[OAuthToken]) -> KafkaError | None:
        """Why there is no new token; None if there is one."""
        if not task.done():
            return AuthenticationError(f"{self._subject()} gave nothing in {seconds(_PATIENCE)}")
        if task.cancelled():
            return AuthenticationError(f"{self._subject()} was cancelled")
        # The fetch raises nothing else.
        return cast("KafkaError | None", task.exception())

    def _spare(self) -> _Kept | None:
        kept = self._kept
        return kept if kept is not None and self._now() < kept.ends_at else None

    def _go_on_with(self, kept: _Kept, error: KafkaError) -> None:
        """Use a token that is due, for there is no new one."""
        now = self._now()
        self._kept = kept._replace(due_at=min(now + _ASK_AGAIN, kept.ends_at))
        if not self._is_out:
            self._is_out = True
            logger.warning(
                "No new token, the one at hand is valid for %s more: %s",
                seconds(kept.ends_at - now),
                error.what(),
            )


def _retrieve(task: asyncio.Task[OAuthToken]) -> None:
    """Look at a task's exception, which may have come when nobody waited any more."""
    if not task.cancelled():
        task.exception()


def _claims(token: str) -> Mapping[str, object]:
    """The claims of a JSON Web Token, not verified; none for a token of another kind."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        found: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _instant(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MILLISECONDS else None
