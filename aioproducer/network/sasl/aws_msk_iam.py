"""AWS_MSK_IAM: the mechanism of Amazon MSK, by which an AWS identity logs in.

    client  JSON: a request for `kafka-cluster:Connect` at this broker, presigned by Signature
            Version 4 with the AWS credentials, and valid for 15 minutes
    broker  JSON with a version and the id of the request in AWS's logs

The credentials come from botocore, which knows all their places and refreshes those that end: it is
asked for each exchange, in a thread. No secret key leaves this module; the session token goes to
the broker, as the mechanism wants.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

from aioproducer.config import ProducerConfig
from aioproducer.errors import AuthenticationError, ConfigError, KafkaError
from aioproducer.network.sasl.exchange import Call, Exchange
from aioproducer.version import __version__

__all__ = ["AwsIdentity", "AwsMskIam", "mechanism", "presigned", "region_of"]

logger = logging.getLogger(__name__)

_VERSION: Final = "2020_10_22"
_ACTION: Final = "kafka-cluster:Connect"
_SERVICE: Final = "kafka-cluster"
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_VALID_FOR: Final = 900
"""Seconds; the broker refuses more."""
_REGION: Final = re.compile(
    r".+\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?\.?", re.IGNORECASE
)
_WHAT: Final = "the search for AWS credentials"


class AwsIdentity(NamedTuple):
    """What a request is signed with.

    Attributes:
        access_key: The id of the key; no secret.
        secret_key: The key.
        session_token: Goes with temporary credentials; None for others.
        region: The region.
    """

    access_key: str
    secret_key: str
    session_token: str | None
    region: str

    def __repr__(self) -> str:
        return f"AwsIdentity(region={self.region!r})"


def mechanism(config: ProducerConfig) -> AwsMskIam:
    """Make the mechanism of a config.

    Raises:
        ConfigError: botocore is missing.
    """
    if find_spec("botocore") is None:
        raise ConfigError(
            "AWS_MSK_IAM needs the package botocore",
            option="sasl_mechanism",
            value="AWS_MSK_IAM",
            hint='Run pip install "aioproducer[msk-iam]".',
        )
    return AwsMskIam(_Identities(config.sasl_aws_profile, config.sasl_aws_region).find)


class AwsMskIam:
    """Presigns a request for each exchange.

    Args:
        find_identity: Returns what to sign with for a broker's host name; may block.
        now: The time, in seconds since 1970.
    """

    name = "AWS_MSK_IAM"

    def __init__(
        self, find_identity: Callable[[str], AwsIdentity], *, now: Callable[[], float] = time.time
    ) -> None:
        self._find_identity = find_identity
        self._now = now

    def exchange(self, host: str) -> Exchange:
        """Begin an exchange."""
        identity: AwsIdentity = yield Call(partial(self._find_identity, host), _WHAT)
        request = presigned(
            {"Action": _ACTION},
            identity,
            host=host,
            service=_SERVICE,
            expires=_VALID_FOR,
            now=self._now(),
        )
        payload = {
            "version": _VERSION,
            "host": host,
            "user-agent": f"aioproducer/{__version__}",
            **{name.lower(): value for name, value in request.items()},
        }
        try:
            answer: bytes = yield json.dumps(payload, separators=(",", ":")).encode()
        except AuthenticationError as error:
            raise _explained(error, identity.region) from error.__cause__
        logger.debug("%s took AWS request %s", host, _request_id(answer))


def _explained(error: KafkaError, region: str) -> KafkaError:
    error.hint = (
        f"Allow the AWS identity in use (`aws sts get-caller-identity`) {_ACTION} on the cluster,"
        f" check that the cluster is in region {region}, and the clock of this machine."
    )
    return error


def _request_id(answer: bytes) -> str:
    """Check the broker's answer, and return the id of the request in AWS's logs."""
    try:
        found: Any = json.loads(answer)
    except (ValueError, RecursionError):
        found = None
    fields = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    request_id = fields.get("request-id")
    if fields.get("version") != _VERSION or not isinstance(request_id, str):
        raise AuthenticationError(
            "The broker's answer is not that of AWS_MSK_IAM",
            hint="Check that bootstrap_servers is an Amazon MSK cluster with IAM access control.",
        )
    return request_id[:100]


# ---- Signature Version 4


def presigned(
    query: Mapping[str, str],
    identity: AwsIdentity,
    *,
    host: str,
    service: str,
    expires: int,
    now: float,
) -> dict[str, str]:
    """Presign `GET https://host/?query`; returns the whole query with its signature.

    Args:
        query: What is asked for.
        identity: Who asks.
        host: Of whom.
        service: AWS's name of the service.
        expires: How long the signature is valid, in seconds.
        now: When it begins to be, in seconds since 1970.
    """
    at = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{at[:8]}/{identity.region}/{service}/aws4_request"
    signed = {
        **query,
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{identity.access_key}/{scope}",
        "X-Amz-Date": at,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    if identity.session_token:
        signed["X-Amz-Security-Token"] = identity.session_token
    pairs = sorted((_quoted(name), _quoted(value)) for name, value in signed.items())
    canonical = "\n".join(
        (
            "GET",
            "/",
            "&".join(f"{name}={value}" for name, value in pairs),
            f"host:{host}",
            "",
            "host",
            hashlib.sha256(b"").hexdigest(),
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{identity.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    to_sign = f"{_ALGORITHM}\n{at}\n{scope}\n{digest}"
    signed["X-Amz-Signature"] = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return signed


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


# ---- credentials


def region_of(host: str) -> str | None:
    """The region that the host name of an MSK broker tells; None for another name."""
    found = _REGION.fullmatch(host)
    return found[1].lower() if found else None


class _Identities:
    """Finds AWS credentials and the region by botocore. Blocks."""

    def __init__(self, profile: str | None, region: str | None) -> None:
        self._profile = profile
        self._region = region
        self._session: Any = None
        # A session is not made for several threads at once.
        self._lock = threading.Lock()

    def find(self, host: str) -> AwsIdentity:
        """Return what to sign with for a broker.

        Raises:
            AuthenticationError: There are no credentials.
            ConfigError: There is no region, or no such profile.
        """
        from botocore.exceptions import ProfileNotFound

        try:
            with self._lock:
                return self._find(host)
        except ProfileNotFound:
            raise ConfigError(
                "AWS's configuration files have no such profile",
                option="sasl_aws_profile",
                value=self._profile,
                hint="" if self._profile else "The environment variable AWS_PROFILE names it.",
            ) from None

    def _find(self, host: str) -> AwsIdentity:
        from botocore.session import Session

        if self._session is None:
            self._session = Session(profile=self._profile)
        credentials = self._session.get_credentials()
        if credentials is None:
            raise AuthenticationError(
                "No AWS credentials were found",
                hint="Set sasl_aws_profile or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give"
                " the machine a role; `aws sts get-caller-identity` shows what is found.",
            )
        region: str | None = self._region or region_of(host)
        region = region or self._session.get_config_variable("region")
        if not region:
            raise ConfigError(
                f"the host name {host} does not show the region",
                option="sasl_aws_region",
                value=None,
                hint="Set it to the region of the cluster, such as 'eu-central-1'.",
            )
        frozen = credentials.get_frozen_credentials()
        return AwsIdentity(frozen.access_key, frozen.secret_key, frozen.token, region)
