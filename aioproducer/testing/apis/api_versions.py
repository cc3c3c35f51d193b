"""ApiVersions, versions 0 to 4: what the brokers can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aioproducer.testing.apis.base import Api, PlainCall, ResetError, Turn
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.habits import Refusal
from aioproducer.testing.state import Supported
from aioproducer.testing.wire import Reader, Writer

__all__ = ["API", "ApiVersionsResponse", "UnsupportedVersion"]


@dataclass(slots=True)
class ApiVersionsResponse:
    """The answer to ApiVersions."""

    apis: list[Supported]
    error_code: int = 0
    features: Mapping[str, int] = field(default_factory=dict[str, int])
    """The finalized features and their levels."""
    throttle_ms: int = 0

    def encode(self, writer: Writer, version: int) -> None:
        """Write the body of the response."""

        def one_api(api: Supported) -> None:
            writer.int16(api.key)
            writer.int16(api.advertised_min)
            writer.int16(api.max_version)
            writer.tags()

        writer.int16(self.error_code)
        writer.array(self.apis, one_api)
        if version >= 1:
            writer.int32(self.throttle_ms)
        writer.tags(self._tagged() if version >= 3 and self.features else ())

    def _tagged(self) -> list[tuple[int, bytearray]]:
        def features(*, lowest_first: bool) -> bytearray:
            part = Writer(flexible=True)

            def one_feature(feature: tuple[str, int]) -> None:
                name, level = feature
                part.string(name)
                part.int16(1 if lowest_first else level)
                part.int16(level if lowest_first else 1)
                part.tags()

            # Level 0 is that of a feature that is not finalized: no broker tells it.
            part.array([one for one in self.features.items() if one[1] > 0], one_feature)
            return part.data

        epoch = Writer()
        epoch.int64(1)
        # SupportedFeatures, FinalizedFeaturesEpoch, FinalizedFeatures; the last has max before min.
        return [
            (0, features(lowest_first=True)),
            (1, epoch.data),
            (2, features(lowest_first=False)),
        ]


class _ApiVersions(PlainCall):
    def __init__(self, reader: Reader, version: int) -> None:
        if version >= 3:
            self.software = (reader.string(), reader.string())
            reader.tags()

    def respond(self, turn: Turn) -> ApiVersionsResponse:
        failure = turn.failure()
        return ApiVersionsResponse(
            list(turn.state.supported),
            error_code=failure.code if failure else 0,
            features=turn.state.features,
            throttle_ms=turn.state.throttle_ms,
        )


class UnsupportedVersion(PlainCall):
    """A request whose version the broker does not know, so that it cannot be read."""

    def __init__(self, supported: Supported, refusal: Refusal = "in_version_0") -> None:
        self._supported = supported
        self._refusal: Refusal = refusal

    def response_version(self, version: int) -> int:
        """Return 0: the one version that whoever asks is sure to know. But brokers differ."""
        return version if self._refusal == "in_version_asked" else 0

    def respond(self, turn: Turn) -> ApiVersionsResponse:
        """Return the versions of ApiVersions itself."""
        if self._refusal == "reset":
            raise ResetError
        is_librdkafka = self._refusal == "in_form_of_librdkafka"
        kind = _LibrdkafkaRefusal if is_librdkafka else ApiVersionsResponse
        return kind([self._supported], error_code=ErrorCode.UNSUPPORTED_VERSION)


class _LibrdkafkaRefusal(ApiVersionsResponse):
    """A list that is not compact behind a count that is, but lacks the one that is added to it."""

    def encode(self, writer: Writer, version: int) -> None:
        writer.int16(self.error_code)
        writer.int8(len(self.apis))
        for api in self.apis:
            writer.int16(api.key)
            writer.int16(api.advertised_min)
            writer.int16(api.max_version)
        writer.int32(self.throttle_ms)


API = Api("api_versions", 18, 0, 4, 3, _ApiVersions, flexible_response_header=False)
