"""ApiVersions (18): which versions of each API the broker speaks, and its features.

It is the first request on each connection. A broker that does not know the request's version
refuses it with one of `REFUSALS`; `frames.decode_response` finds out the version of the refusal.
"""

from collections.abc import Sequence
from typing import NamedTuple

from aioproducer.protocol.schema import BOOL, INT16, INT32, INT64, STRING, Api, Array, Field, Struct

__all__ = [
    "API_VERSIONS",
    "REFUSALS",
    "ApiVersion",
    "ApiVersionsRequest",
    "ApiVersionsResponse",
    "FinalizedFeatureKey",
    "SupportedFeatureKey",
]

REFUSALS = frozenset((35, 42))
"""UNSUPPORTED_VERSION, and INVALID_REQUEST from brokers that cannot read the request."""


class ApiVersionsRequest(NamedTuple):
    """Asks for the versions of all APIs. The broker checks the characters of both names."""

    client_software_name: str = ""
    client_software_version: str = ""


class ApiVersion(NamedTuple):
    """The versions of one API that the broker speaks."""

    api_key: int = 0
    min_version: int = 0
    max_version: int = 0


class SupportedFeatureKey(NamedTuple):
    """A feature that the broker could run."""

    name: str = ""
    min_version: int = 0
    max_version: int = 0


class FinalizedFeatureKey(NamedTuple):
    """A feature that the cluster runs, such as `transaction.version`."""

    name: str = ""
    max_version_level: int = 0
    min_version_level: int = 0


class ApiVersionsResponse(NamedTuple):
    """The APIs of the broker; the features are valid if their epoch is not -1."""

    error_code: int = 0
    api_keys: Sequence[ApiVersion] = ()
    throttle_time_ms: int = 0
    supported_features: Sequence[SupportedFeatureKey] = ()
    finalized_features_epoch: int = -1
    finalized_features: Sequence[FinalizedFeatureKey] = ()
    zk_migration_ready: bool = False


_SUPPORTED_FEATURE = Struct(
    SupportedFeatureKey,
    Field("name", STRING),
    Field("min_version", INT16),
    Field("max_version", INT16),
)

_FINALIZED_FEATURE = Struct(
    FinalizedFeatureKey,
    Field("name", STRING),
    Field("max_version_level", INT16),
    Field("min_version_level", INT16),
)

API_VERSIONS = Api(
    key=18,
    name="ApiVersions",
    min_version=0,
    max_version=4,
    flexible_from=3,
    pause_from=2,
    request=Struct(
        ApiVersionsRequest,
        Field("client_software_name", STRING, since=3, ignorable=True),
        Field("client_software_version", STRING, since=3, ignorable=True),
    ),
    response=Struct(
        ApiVersionsResponse,
        Field("error_code", INT16),
        Field(
            "api_keys",
            Array(
                Struct(
                    ApiVersion,
                    Field("api_key", INT16),
                    Field("min_version", INT16),
                    Field("max_version", INT16),
                )
            ),
        ),
        Field("throttle_time_ms", INT32, since=1, ignorable=True),
        Field("supported_features", Array(_SUPPORTED_FEATURE), since=3, tag=0, ignorable=True),
        Field("finalized_features_epoch", INT64, since=3, tag=1, ignorable=True),
        Field("finalized_features", Array(_FINALIZED_FEATURE), since=3, tag=2, ignorable=True),
        Field("zk_migration_ready", BOOL, since=3, tag=3, ignorable=True),
    ),
)
