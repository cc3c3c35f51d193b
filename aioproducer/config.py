"""Every option of a producer: name, type, default, meaning, and what options ask of each other.

A `ProducerConfig` is immutable, is checked when it is made, needs no event loop and does no I/O.

An option is declared once, as a field of `ProducerConfig`: its type, the rule for its values
(options.py), its default and its docstring. tools/options_table.py makes docs/options.md from
these. `ProducerOptions` has the types in which options may be given. Names are Java's with `_` for
`.`.
"""

# Without `from __future__ import annotations`: the rules are read from the annotations, and
# evaluating them from text would take longer than the rest of the module.

import dataclasses
import logging
import math
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Final,
    Literal,
    Self,
    TypeAlias,
    TypedDict,
    Unpack,
    cast,
    get_args,
)

from aioproducer.errors import ConfigError
from aioproducer.hooks import (
    OAuthTokenProvider,
    OnError,
    OnUndelivered,
    PartitionerOption,
    SecretProvider,
    SerializerName,
    SerializerOption,
)
from aioproducer.options import (
    INT64_MAX,
    Rule,
    Secret,
    choice,
    file_path,
    flag,
    function,
    header_text,
    number,
    pairs,
    secret,
    servers,
    some_text,
    split_host_port,
    tls_settings,
    whole_number,
)
from aioproducer.properties import read_properties
from aioproducer.security_options import check_security

__all__ = [
    "CompressionType",
    "ProducerConfig",
    "ProducerOptions",
    "SaslMechanism",
    "SecurityProtocol",
    "TokenGrant",
    "options_in_environment",
]

logger = logging.getLogger(__name__)

CompressionType: TypeAlias = Literal["none", "gzip", "snappy", "lz4", "zstd"]
SecurityProtocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism: TypeAlias = Literal[
    "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI", "AWS_MSK_IAM"
]

TokenGrant: TypeAlias = Literal["client_credentials", "jwt_bearer"]

_SECONDS_LONG: Final = 10_000
"""An option whose default is at least so many milliseconds..."""

_TOO_SHORT: Final = 100
"""... gets a warning below so many: seconds were probably meant."""

_IDEMPOTENCE_IN_FLIGHT: Final = 5
"""A broker remembers so many batches of a producer id and partition."""

_JAVA: Final = "org.apache.kafka.common.serialization."
_SERIALIZERS: Final[Mapping[str, str]] = {
    **{name: name for name in get_args(SerializerName)},
    # A properties file made for the Java client names classes.
    **{
        f"{_JAVA}{java}Serializer": name
        for java, name in {
            "ByteArray": "bytes",
            "ByteBuffer": "bytes",
            "Bytes": "bytes",
            "String": "string",
            "Integer": "integer",
            "Long": "long",
            "Short": "short",
            "Float": "float",
            "Double": "double",
            "UUID": "uuid",
        }.items()
    },
}
_PARTITIONERS: Final[Mapping[str, str]] = {
    "round_robin": "round_robin",
    "org.apache.kafka.clients.producer.RoundRobinPartitioner": "round_robin",
}
_JAVA_OAUTH: Final = "org.apache.kafka.common.security.oauthbearer."
_RETRIEVERS: Final[Mapping[str | int | None, str | int]] = {
    # A URL of the kind file: is that of a token, whatever the class.
    f"{_JAVA_OAUTH}DefaultJwtRetriever": "client_credentials",
    f"{_JAVA_OAUTH}FileJwtRetriever": "client_credentials",
    f"{_JAVA_OAUTH}ClientCredentialsJwtRetriever": "client_credentials",
    f"{_JAVA_OAUTH}JwtBearerJwtRetriever": "jwt_bearer",
    # librdkafka's name for it.
    "urn:ietf:params:oauth:grant-type:jwt-bearer": "jwt_bearer",
}


_MS: Final = whole_number(0, unit="milliseconds")
_LONG_MS: Final = whole_number(0, INT64_MAX, unit="milliseconds")
_POSITIVE_LONG_MS: Final = whole_number(1, INT64_MAX, unit="milliseconds")
_IDLE_MS: Final = whole_number(5_000, INT64_MAX, unit="milliseconds")
_POSITIVE_MS: Final = whole_number(1, unit="milliseconds")
_SOCKET_BUFFER: Final = whole_number(
    0, unit="bytes", special={-1: "the operating system's own choice"}
)
_SERIALIZER: Final = function(
    "an object with serialize(topic, value) or serialize(topic, value, headers), or a function of"
    " the value that returns bytes",
    _SERIALIZERS,
    method="serialize",
)
_PARTITIONER: Final = function(
    "a function of (topic, key, partitions, available) that returns a partition", _PARTITIONERS
)
_ACKS: Final = choice(
    aliases={"all": -1, "-1": -1, -1: -1, "0": 0, 0: 0, "1": 1, 1: 1},
    allowed="'all' (or -1), 0, 1",
)
_MECHANISM: Final = choice(*get_args(SaslMechanism), is_optional=True)
_COMPRESSION: Final = choice(*get_args(CompressionType), aliases={None: "none"})


class ProducerOptions(TypedDict, total=False):
    """The options as they may be given, by keyword; `bootstrap_servers` goes beside them.

    `ProducerConfig` documents each one.
    """

    client_id: str
    acks: Literal["all", -1, 0, 1, "-1", "0", "1"]
    enable_idempotence: bool
    transactional_id: str | None
    transaction_timeout_ms: int
    linger_ms: float
    batch_size: int
    max_request_size: int
    buffer_memory: int
    max_block_ms: int
    fail_fast: bool
    delivery_timeout_ms: int
    request_timeout_ms: int
    retries: int
    retry_backoff_ms: int
    retry_backoff_max_ms: int
    reconnect_backoff_ms: int
    reconnect_backoff_max_ms: int
    socket_connection_setup_timeout_ms: int
    socket_connection_setup_timeout_max_ms: int
    max_in_flight_requests_per_connection: int
    compression_type: CompressionType | None
    compression_gzip_level: int
    compression_lz4_level: int
    compression_zstd_level: int
    send_buffer_bytes: int
    receive_buffer_bytes: int
    key_serializer: SerializerOption | None
    value_serializer: SerializerOption | None
    partitioner: PartitionerOption | None
    partitioner_ignore_keys: bool
    partitioner_adaptive_partitioning_enable: bool
    partitioner_availability_timeout_ms: int
    metadata_max_age_ms: int
    metadata_max_idle_ms: int
    metadata_recovery_strategy: Literal["rebootstrap", "none"]
    metadata_recovery_rebootstrap_trigger_ms: int
    connections_max_idle_ms: int
    allow_auto_create_topics: bool
    security_protocol: SecurityProtocol
    ssl_context: ssl.SSLContext | None
    ssl_ca_location: str | None
    ssl_ca_pem: str | None
    ssl_certificate_location: str | None
    ssl_certificate_pem: str | None
    ssl_key_location: str | None
    ssl_key_pem: str | None
    ssl_key_password: str | None
    ssl_endpoint_identification_algorithm: Literal["https", ""]
    sasl_mechanism: SaslMechanism | None
    sasl_username: str | None
    sasl_password: str | SecretProvider | None
    sasl_oauth_token_provider: OAuthTokenProvider | None
    sasl_oauthbearer_extensions: Mapping[str, str] | str
    sasl_oauthbearer_token_endpoint_url: str | None
    sasl_oauthbearer_client_credentials_client_id: str | None
    sasl_oauthbearer_client_credentials_client_secret: str | None
    sasl_oauthbearer_scope: str | None
    sasl_oauthbearer_header_urlencode: bool
    sasl_oauthbearer_jwt_retriever_class: TokenGrant
    sasl_oauthbearer_assertion_algorithm: Literal["RS256", "ES256"]
    sasl_oauthbearer_assertion_claim_aud: str | None
    sasl_oauthbearer_assertion_claim_iss: str | None
    sasl_oauthbearer_assertion_claim_sub: str | None
    sasl_oauthbearer_assertion_claim_exp_seconds: int
    sasl_oauthbearer_assertion_claim_nbf_seconds: int
    sasl_oauthbearer_assertion_claim_jti_include: bool
    sasl_oauthbearer_assertion_file: str | None
    sasl_oauthbearer_assertion_private_key_file: str | None
    sasl_oauthbearer_assertion_private_key_passphrase: str | None
    sasl_oauthbearer_assertion_template_file: str | None
    sasl_login_connect_timeout_ms: int
    sasl_login_read_timeout_ms: int
    sasl_login_retry_backoff_ms: int
    sasl_login_retry_backoff_max_ms: int
    sasl_login_refresh_window_factor: float
    sasl_login_refresh_window_jitter: float
    sasl_login_refresh_min_period_seconds: int
    sasl_login_refresh_buffer_seconds: int
    sasl_kerberos_service_name: str
    sasl_kerberos_principal: str | None
    sasl_kerberos_keytab: str | None
    sasl_aws_region: str | None
    sasl_aws_profile: str | None
    close_timeout_ms: int
    on_error: OnError | None
    on_undelivered: OnUndelivered | None


_PAGE_CLICKS: Final[ProducerOptions] = {
    "acks": 1,
    "enable_idempotence": False,
    "linger_ms": 20,
    "compression_type": "lz4",
    "max_block_ms": 1_000,
    "request_timeout_ms": 5_000,
    "delivery_timeout_ms": 10_000,
}


@dataclasses.dataclass(frozen=True, slots=True, init=False, repr=False, kw_only=True)
class ProducerConfig:
    """The options of one producer, checked and in their normal form.

    The defaults lose nothing and store nothing twice. For records of which some may be lost, see
    `page_clicks`. To read options from elsewhere, see `from_properties` and `from_env`.

    Example:
        >>> config = ProducerConfig(bootstrap_servers="localhost:9092", linger_ms=5)
        >>> config.acks
        -1
        >>> config.replace(compression_type="zstd")
        ProducerConfig(bootstrap_servers='localhost:9092', linger_ms=5, compression_type='zstd')
    """

    bootstrap_servers: Annotated[tuple[str, ...], servers()]
    """Brokers to ask first for the whole cluster, as `"host:port,host:port"` or a sequence of
    `"host:port"`; the port defaults to 9092. Two or three are enough: any one that answers will
    do. Also where the producer returns to when it has lost the whole cluster."""

    client_id: Annotated[str, header_text()] = "aioproducer"
    """Name of this producer in the brokers' logs, metrics and quotas."""

    acks: Annotated[Literal[-1, 0, 1], _ACKS] = -1
    """Which replicas must have a record before it counts as stored: `"all"` (read as -1) the
    in-sync ones, 1 the leader alone, 0 none: the broker is not even asked for a
    response, and offsets are -1. Idempotence needs `"all"`."""

    enable_idempotence: Annotated[bool, flag()] = True
    """Whether the broker drops the duplicates that retries make, and keeps each partition in
    order. Needs `acks="all"`, `retries` above 0 and at most 5 requests in flight: an error if set
    to True with others, otherwise switched off when `acks` or `retries` exclude it (KIP-679)."""

    transactional_id: Annotated[str | None, some_text("an id")] = None
    """Name of this producer for transactions, the same after a restart and no other's: a producer
    that starts with it fences the one before, and aborts what that left open. It enables
    `Producer.transaction`; records can then be sent in transactions only."""

    transaction_timeout_ms: Annotated[int, _POSITIVE_MS] = 60_000
    """Longest life of a transaction, in milliseconds: then its coordinator aborts it. At most what
    the broker's `transaction.max.timeout.ms` allows."""

    linger_ms: Annotated[float, number(0, unit="milliseconds")] = 0
    """How long a batch that is not full waits for more records, in milliseconds; fractions are
    allowed. With 0 it leaves at the end of the loop's turn if nothing is in flight to its broker
    and all callers that there were of late have sent; else it waits for them or for the response,
    but no longer than half a response time. So a fixed wait is seldom needed (Java's default is
    5)."""

    batch_size: Annotated[int, whole_number(0, unit="bytes")] = 1_000_000
    """Size at which a batch of one partition is full, in bytes before compression. A larger
    record gets a batch of its own; 0 gives that to every record. A batch leaves before it is full
    when the broker can take it, and its memory grows as records come, so that only a partition
    with a backlog has large ones. The broker's own bound for a batch is 1048588 bytes by default
    (Java's default is 16384)."""

    max_request_size: Annotated[int, whole_number(1, unit="bytes")] = 4_194_304
    """Largest record, and largest Produce request, in bytes before compression. The broker and
    the topic have limits of their own for a batch (`message.max.bytes`, `max.message.bytes`).
    Java's default is 1048576; but a broker begins with a connection's next request when it has
    answered the one before, so with replicas larger ones get more done."""

    buffer_memory: Annotated[int, whole_number(1, INT64_MAX, unit="bytes")] = 33_554_432
    """Bytes of records that may wait for their acknowledgement. When they are full, `send` waits
    for space up to `max_block_ms`, and `send_nowait` raises `BufferExhaustedError`."""

    max_block_ms: Annotated[int, _LONG_MS] = 60_000
    """Longest time for a record to be accepted, in milliseconds: waiting for buffer space
    and for the metadata of its topic."""

    fail_fast: Annotated[bool, flag()] = False
    """Refuse a record at once, with `KafkaConnectionError`, while every broker that its topic needs
    is known to be down: the last attempt to connect failed. Else it waits, and is sent if a
    broker comes back in time."""

    delivery_timeout_ms: Annotated[int, _MS] = 120_000
    """Longest time from acceptance to result, in milliseconds, over all retries. At least
    `linger_ms + request_timeout_ms`: an error if it is set lower, and raised to their sum if it
    is not set."""

    request_timeout_ms: Annotated[int, _POSITIVE_MS] = 30_000
    """Longest wait for the response to one request, in milliseconds; the connection is closed then.
    Also how long the leader may wait for its in-sync replicas."""

    retries: Annotated[int, whole_number(0)] = 2_147_483_647
    """How often a batch is sent again after an error that may pass. Better left alone and bounded
    by `delivery_timeout_ms`; 0 excludes idempotence."""

    retry_backoff_ms: Annotated[int, _MS] = 100
    """Wait before the first retry of a batch or of a metadata request, in milliseconds; doubled
    by every further one, with 20 % of jitter (KIP-580)."""

    retry_backoff_max_ms: Annotated[int, _MS] = 1_000
    """Longest wait between two retries, in milliseconds. If it is below `retry_backoff_ms`,
    every wait is this long."""

    reconnect_backoff_ms: Annotated[int, _MS] = 50
    """Wait before connecting again to a broker that refused or dropped the connection, in
    milliseconds; doubled by every further failure, with 20 % of jitter."""

    reconnect_backoff_max_ms: Annotated[int, _MS] = 1_000
    """Longest wait between two attempts to connect to one broker, in milliseconds. If it is below
    `reconnect_backoff_ms`, every wait is this long."""

    socket_connection_setup_timeout_ms: Annotated[int, _POSITIVE_MS] = 10_000
    """Longest time for a connection to be made, TLS included, in milliseconds; doubled by every
    failed attempt to reach a broker (KIP-601)."""

    socket_connection_setup_timeout_max_ms: Annotated[int, _POSITIVE_MS] = 30_000
    """Where the doubling of `socket_connection_setup_timeout_ms` ends, in milliseconds."""

    max_in_flight_requests_per_connection: Annotated[int, whole_number(1)] = 5
    """Requests that may wait for the response of one broker. More than 5 needs
    `enable_idempotence=False`, and then a retry can change the order of records unless this
    is 1."""

    compression_type: Annotated[CompressionType, _COMPRESSION] = "none"
    """How batches are compressed: `"none"` (or None), `"gzip"`, `"snappy"`, `"lz4"` or `"zstd"`.
    A batch that compression makes larger is sent as it is."""

    compression_gzip_level: Annotated[
        int, whole_number(1, 9, special={-1: "zlib's own choice (6)"})
    ] = -1
    """From 1 (fast) to 9 (small), or -1 for zlib's own choice, 6 (KIP-390)."""

    compression_lz4_level: Annotated[int, whole_number(1, 17)] = 9
    """9 is the fast compressor, as in Java. Below it, 1 and 2 are that one too; 3 to 8 and 10 to
    17 are the high-compression one, about ten times slower and more; above 12 nothing is gained
    (KIP-390)."""

    compression_zstd_level: Annotated[int, whole_number(-131_072, 22)] = 3
    """From 1 (fast) to 22 (small); negative levels are faster still (KIP-390)."""

    send_buffer_bytes: Annotated[int, _SOCKET_BUFFER] = -1
    """The socket's send buffer (SO_SNDBUF) in bytes; -1 leaves it to the operating system. Java
    sets 131072: a request is often larger, so that it would leave in pieces, and a fixed size
    forbids the system to widen the window for brokers far away."""

    receive_buffer_bytes: Annotated[int, _SOCKET_BUFFER] = -1
    """The socket's receive buffer (SO_RCVBUF) in bytes; -1 leaves it to the operating system. Java
    sets 32768: responses to a producer are small, except for the metadata of a large cluster, and a
    fixed size forbids the system to widen its window for that one."""

    key_serializer: Annotated[SerializerOption | None, _SERIALIZER] = None
    """Turns keys into bytes: the name of a ready one (`"string"`, `"json"`, `"integer"`, `"long"`,
    `"short"`, `"float"`, `"double"`, `"uuid"`, `"bytes"`), a `Serializer`, or a function of the
    key. None: keys are bytes already."""

    value_serializer: Annotated[SerializerOption | None, _SERIALIZER] = None
    """Turns values into bytes, as `key_serializer` does keys."""

    partitioner: Annotated[PartitionerOption | None, _PARTITIONER] = None
    """Chooses the partition of records that name none. None: by murmur2 hash of the key as in
    Java, and for records without key one partition until a batch is full, then another (KIP-794).
    `"round_robin"`: each record to the next partition, keys or not. Or a function of `(topic, key,
    partitions, available)`. Java's name: `partitioner.class`."""

    partitioner_ignore_keys: Annotated[bool, flag()] = False
    """Whether the built-in partitioner treats records with a key like those without."""

    partitioner_adaptive_partitioning_enable: Annotated[bool, flag()] = True
    """Whether the built-in partitioner gives fewer records without key to partitions whose
    brokers are slow, by the batches that wait there (KIP-794)."""

    partitioner_availability_timeout_ms: Annotated[int, _LONG_MS] = 0
    """A partition whose broker has taken nothing for this many milliseconds gets no records
    without key; 0 switches this off (KIP-794). Needs
    `partitioner_adaptive_partitioning_enable`."""

    metadata_max_age_ms: Annotated[int, _LONG_MS] = 300_000
    """Age at which metadata is refreshed without any error, in milliseconds, to see new
    partitions and moved leaders early."""

    metadata_max_idle_ms: Annotated[int, _IDLE_MS] = 300_000
    """A topic that got no record for this many milliseconds is no longer asked about."""

    metadata_recovery_strategy: Annotated[
        Literal["rebootstrap", "none"], choice("rebootstrap", "none")
    ] = "rebootstrap"
    """What to do when no known broker can be reached: `"rebootstrap"` begins again with
    `bootstrap_servers`, `"none"` keeps trying the brokers known (KIP-899)."""

    metadata_recovery_rebootstrap_trigger_ms: Annotated[int, _MS] = 300_000
    """Begin again with `bootstrap_servers` after this many milliseconds without metadata, even
    though brokers can be reached (KIP-1102)."""

    connections_max_idle_ms: Annotated[int, _POSITIVE_LONG_MS] = 540_000
    """A connection not used for this many milliseconds is closed, before the broker does so
    (10 minutes by default)."""

    allow_auto_create_topics: Annotated[bool, flag()] = True
    """Whether sending to a topic that does not exist asks the broker to create it. The broker
    must allow it too (`auto.create.topics.enable`)."""

    security_protocol: Annotated[SecurityProtocol, choice(*get_args(SecurityProtocol))] = (
        "PLAINTEXT"
    )
    """How to speak to brokers: `"PLAINTEXT"`, `"SSL"` (TLS), `"SASL_PLAINTEXT"` or `"SASL_SSL"`
    (SASL over TLS). It has to be that of the broker's listener; there is no fallback."""

    ssl_context: Annotated[ssl.SSLContext | None, tls_settings()] = None
    """The TLS settings for `security_protocol="SSL"` and `"SASL_SSL"`, all of them; no other `ssl_`
    option may be set then. None: made from these options, for TLS 1.2 and newer."""

    ssl_ca_location: Annotated[str | None, file_path("the path of a file or folder")] = None
    """Path of the certificates of the authorities to trust, as a PEM file, or as a folder of such
    files. None: `ssl_ca_pem`, or else those that the system trusts. What was changed is read again
    for the next connection."""

    ssl_ca_pem: Annotated[str | None, secret("certificates as PEM text")] = None
    """The certificates of the authorities to trust, as PEM text."""

    ssl_certificate_location: Annotated[str | None, file_path()] = None
    """Path of the client's certificate for brokers that ask for one (mutual TLS), as a PEM file;
    its intermediate authorities follow in the file. A changed file is read again for the next
    connection."""

    ssl_certificate_pem: Annotated[str | None, secret("certificates as PEM text")] = None
    """The client's certificate, and its intermediate authorities, as PEM text; its private key may
    stand in it as well."""

    ssl_key_location: Annotated[str | None, file_path()] = None
    """Path of the private key of the client's certificate, as a PEM file. None: it is in the file
    `ssl_certificate_location`."""

    ssl_key_pem: Annotated[str | None, secret("a private key as PEM text")] = None
    """The private key of the client's certificate, as PEM text."""

    ssl_key_password: Annotated[str | None, secret("a password")] = None
    """Password of the private key, if it is encrypted."""

    ssl_endpoint_identification_algorithm: Annotated[
        Literal["https", ""], choice("https", aliases={"": "", "none": ""}, allowed="'https', ''")
    ] = "https"
    """`"https"`: the broker's certificate has to be for the host name that was connected to. `""`
    leaves that out, so that anybody with a certificate of the same authority can pose as the
    broker."""

    sasl_mechanism: Annotated[
        SaslMechanism | None, choice(*get_args(SaslMechanism), is_optional=True)
    ] = None
    """How to log in with `security_protocol="SASL_SSL"` or `"SASL_PLAINTEXT"`: `"PLAIN"`,
    `"SCRAM-SHA-256"`, `"SCRAM-SHA-512"`, `"OAUTHBEARER"`, `"GSSAPI"` (Kerberos) or
    `"AWS_MSK_IAM"`."""

    sasl_username: Annotated[str | None, some_text("a user name")] = None
    """User name for PLAIN and SCRAM."""

    sasl_password: Annotated[
        str | SecretProvider | None, secret("a password", is_provided=True)
    ] = None
    """Password for PLAIN and SCRAM. A function, or coroutine function, that returns it is asked for
    each new connection, so that a password that was rotated is used."""

    sasl_oauth_token_provider: Annotated[
        OAuthTokenProvider | None,
        function(
            "a function (or coroutine function) that returns a token or an OAuthToken",
            is_awaited=True,
        ),
    ] = None
    """Returns tokens for OAUTHBEARER: a coroutine function, or a function, which is called in a
    thread. None: they come from `sasl_oauthbearer_token_endpoint_url`."""

    sasl_oauthbearer_extensions: Annotated[
        tuple[tuple[str, str], ...], pairs("SASL extensions")
    ] = ()
    """SASL extensions to send with each token (KIP-342), as a mapping or as `"name=value,..."`."""

    sasl_oauthbearer_token_endpoint_url: Annotated[str | None, some_text("a URL")] = None
    """URL of the identity provider's token endpoint, for OAUTHBEARER (KIP-768); `http://` for this
    machine only. Its certificate is checked against the system's authorities, or those in the file
    that the environment variable `SSL_CERT_FILE` names; `ssl_ca_location` is for brokers. A URL
    with `file://` is that of a file with a token, read for each connection that needs one."""

    sasl_oauthbearer_client_credentials_client_id: Annotated[
        str | None, some_text("a client id")
    ] = None
    """Client id for the client credentials grant (KIP-1139)."""

    sasl_oauthbearer_client_credentials_client_secret: Annotated[
        str | None, secret("a client secret")
    ] = None
    """Client secret for the client credentials grant (KIP-1139)."""

    sasl_oauthbearer_scope: Annotated[str | None, some_text("scopes, separated by spaces")] = None
    """Scope to ask the token endpoint for."""

    sasl_oauthbearer_header_urlencode: Annotated[bool, flag()] = False
    """Whether client id and secret are URL-encoded before they go into the `Authorization` header,
    as RFC 6749 asks. Off, as in Java, since few identity providers decode them; needed where one of
    the two has special characters and the provider does."""

    sasl_oauthbearer_jwt_retriever_class: Annotated[
        TokenGrant, choice(*get_args(TokenGrant), aliases=_RETRIEVERS)
    ] = "client_credentials"
    """How to ask the token endpoint: `"client_credentials"`, with a client secret or a client
    assertion (KIP-1258), or `"jwt_bearer"`, which exchanges an assertion for a token (KIP-1139).
    The names of Java's classes are understood."""

    sasl_oauthbearer_assertion_algorithm: Annotated[
        Literal["RS256", "ES256"], choice("RS256", "ES256")
    ] = "RS256"
    """How an assertion is signed: `"RS256"` with an RSA key, or `"ES256"` with a P-256 key."""

    sasl_oauthbearer_assertion_claim_aud: Annotated[str | None, some_text("an audience")] = None
    """Audience of the assertions that are made here: most often the token endpoint's URL."""

    sasl_oauthbearer_assertion_claim_iss: Annotated[str | None, some_text("an issuer")] = None
    """Issuer of the assertions that are made here. For the client credentials grant it asks for a
    client assertion in place of a client secret."""

    sasl_oauthbearer_assertion_claim_sub: Annotated[str | None, some_text("a subject")] = None
    """Subject of the assertions that are made here."""

    sasl_oauthbearer_assertion_claim_exp_seconds: Annotated[
        int, whole_number(0, 86_400, unit="seconds")
    ] = 300
    """How long an assertion is valid, in seconds."""

    sasl_oauthbearer_assertion_claim_nbf_seconds: Annotated[
        int, whole_number(0, 3_600, unit="seconds")
    ] = 60
    """How long before it was made an assertion is valid already, in seconds, since the identity
    provider's clock may be late."""

    sasl_oauthbearer_assertion_claim_jti_include: Annotated[bool, flag()] = False
    """Whether each assertion gets an id of its own (`jti`), so that it can be used only once."""

    sasl_oauthbearer_assertion_file: Annotated[str | None, file_path()] = None
    """Path of an assertion that somebody else keeps fresh, such as Kubernetes; read for each
    request, and used in place of one that is made here."""

    sasl_oauthbearer_assertion_private_key_file: Annotated[str | None, file_path()] = None
    """Path of the private key that signs assertions, as a PEM file; read for each one. Needs
    `pip install "aioproducer[oauth]"`."""

    sasl_oauthbearer_assertion_private_key_passphrase: Annotated[
        str | None, secret("a passphrase")
    ] = None
    """Passphrase of that key, if it is encrypted."""

    sasl_oauthbearer_assertion_template_file: Annotated[str | None, file_path()] = None
    """Path of a JSON file with more for the assertions, as `{"header": {...}, "payload": {...}}`:
    a `kid`, or other claims."""

    sasl_login_connect_timeout_ms: Annotated[int, _POSITIVE_MS] = 10_000
    """Longest time to connect to the token endpoint, in milliseconds."""

    sasl_login_read_timeout_ms: Annotated[int, _POSITIVE_MS] = 10_000
    """Longest time for the token endpoint's whole answer once it is connected, in milliseconds;
    then it is asked again."""

    sasl_login_retry_backoff_ms: Annotated[int, _MS] = 100
    """Wait before a token endpoint that failed is asked again, in milliseconds; doubled by every
    further failure, with 20 % of jitter."""

    sasl_login_retry_backoff_max_ms: Annotated[int, _LONG_MS] = 5_000
    """How long a token endpoint that fails is asked again, in all, in milliseconds (Java's default
    is 10000: as long as a whole connection may take, so that its reason would not be seen)."""

    sasl_login_refresh_window_factor: Annotated[float, number(0.5, 1.0)] = 0.8
    """Share of a token's life after which the next connection asks for a new one; the old one is
    used on if that fails."""

    sasl_login_refresh_window_jitter: Annotated[float, number(0, 0.25)] = 0.05
    """Most that is added to this share by chance, so that many producers do not ask at once."""

    sasl_login_refresh_min_period_seconds: Annotated[int, whole_number(0, 900, unit="seconds")] = 60
    """Least time between two requests for a token, in seconds. Ignored, as is the buffer, for a
    token whose life is shorter than the two together."""

    sasl_login_refresh_buffer_seconds: Annotated[int, whole_number(0, 3_600, unit="seconds")] = 300
    """How long before a token's end a new one is asked for at the latest, in seconds."""

    sasl_kerberos_service_name: Annotated[str, header_text()] = "kafka"
    """For GSSAPI: the first part of the brokers' principal, `kafka` in `kafka/host@REALM`."""

    sasl_kerberos_principal: Annotated[str | None, some_text("a principal")] = None
    """For GSSAPI: whose credentials to use, as `"name@REALM"`. None: those of the keytab's first
    principal, or of the ticket cache."""

    sasl_kerberos_keytab: Annotated[str | None, file_path()] = None
    """For GSSAPI: path of a keytab to get tickets with, whenever they are needed. None: the ticket
    cache (`kinit`, `KRB5CCNAME`), or the keytab that `KRB5_CLIENT_KTNAME` names."""

    sasl_aws_region: Annotated[str | None, some_text("an AWS region")] = None
    """For AWS_MSK_IAM: the region. None: that in the broker's host name, or else that of the AWS
    profile or environment."""

    sasl_aws_profile: Annotated[str | None, some_text("an AWS profile")] = None
    """For AWS_MSK_IAM: the profile of AWS's configuration files whose credentials to use. None:
    botocore's usual search."""

    close_timeout_ms: Annotated[int, _LONG_MS] = 25_000
    """Longest time for `close()` without a timeout of its own, and so for leaving `async with`, in
    milliseconds. Below the 30 s that Kubernetes gives a pod to end; what was not delivered by then
    is returned, logged in one line, and handed to `on_undelivered`."""

    on_error: Annotated[OnError | None, function("a function of (error, record_count)")] = None
    """Called once for each failed batch with the error and the number of records lost: how
    failures of records sent and forgotten are seen. On the event loop, so it must not block."""

    on_undelivered: Annotated[
        OnUndelivered | None,
        function("a function of the sequence of UndeliveredRecords", is_awaited=True),
    ] = None
    """Called once, at the end of a `close` that could not deliver everything, with what it returns:
    the place to store the records elsewhere. May be a coroutine function; `close` waits for it."""

    _given: Mapping[str, object] = dataclasses.field(init=False, compare=False)

    def __init__(
        self, *, bootstrap_servers: str | Sequence[str], **options: Unpack[ProducerOptions]
    ) -> None:
        """Check the options and what they ask of each other.

        Raises:
            ConfigError: An option is unknown, impossible, or in conflict with another. It names
                the option, the value given, what is allowed and what to change.
        """
        given: dict[str, object] = {"bootstrap_servers": bootstrap_servers, **options}
        for name in given:
            if name not in _RULES:
                raise _unknown(name)
        values = _DEFAULTS | {
            name: _RULES[name].check(name, value) for name, value in given.items()
        }
        # Values as they were given, but for secrets: those show themselves nowhere.
        given |= {name: value for name, value in values.items() if isinstance(value, Secret)}
        for name, value in (values | {"_given": given}).items():
            object.__setattr__(self, name, value)
        self._resolve_idempotence()
        self._resolve_delivery_timeout()
        self._check_security()
        self._advise_more_servers()
        self._advise_milliseconds()

    @classmethod
    def page_clicks(
        cls, bootstrap_servers: str | Sequence[str], **overrides: Unpack[ProducerOptions]
    ) -> Self:
        """Make a config for records of which some may be lost, and which must slow nobody down.

        Sent with `send_nowait`, such a record never waits. One replica acknowledges it
        (`acks=1`, no idempotence: a retry may store it twice or out of order). It lingers 20 ms to
        share its request with others, in batches compressed by the fast lz4. A topic's first
        records wait at most 1 s for its metadata, one request takes at most 5 s, and after 10 s a
        record is given up, so that an outage fills the buffer with fresh clicks and not with
        stale ones.

        Args:
            bootstrap_servers: As in `ProducerConfig`.
            **overrides: Options that win over the preset.
        """
        options: ProducerOptions = {**_PAGE_CLICKS, **overrides}
        return cls(bootstrap_servers=bootstrap_servers, **options)

    @classmethod
    def from_properties(cls, properties: Mapping[str, object]) -> Self:
        """Read options from a mapping with Java's names, such as a parsed properties file.

        Names may be dotted (`linger.ms`) or not (`linger_ms`), and librdkafka's as well. Texts are
        read as the type of their option (`"true"`, `"5"`); the names of Java's serializer classes
        are understood, and `sasl.jaas.config`. Stores of certificates and keys have to be PEM.

        Raises:
            ConfigError: A name is unknown (the closest known one is suggested) or given twice, or
                a value is impossible, or asks for what only Java or librdkafka can do.
        """
        given: dict[str, object] = {}
        for name, label, value in read_properties(properties):
            if name not in _RULES:
                raise _unknown(label)
            given[name] = _read(name, label, value)
        return cls._from_given(given, "bootstrap.servers")

    @classmethod
    def from_env(cls, prefix: str = "KAFKA_", environ: Mapping[str, str] | None = None) -> Self:
        """Read options from environment variables, such as `KAFKA_BOOTSTRAP_SERVERS`.

        Variables that are no options (`KAFKA_HOME`) are ignored; one that looks like a misspelt
        option is ignored with a warning in the log. To add options that have no text form, such
        as a serializer of your own, go on with `replace`.

        Args:
            prefix: What the names begin with; the rest is the option in upper case.
            environ: Read this mapping and not `os.environ`.

        Raises:
            ConfigError: The value of a variable is impossible, or
                `KAFKA_BOOTSTRAP_SERVERS` is not set.
        """
        given = options_in_environment(os.environ if environ is None else environ, prefix)
        return cls._from_given(given, f"{prefix}BOOTSTRAP_SERVERS")

    @classmethod
    def _from_given(cls, given: dict[str, object], servers_label: str) -> Self:
        if "bootstrap_servers" not in given:
            raise ConfigError(
                "not set", option=servers_label, hint="Name at least one broker as host:port."
            )
        servers = cast("tuple[str, ...]", given.pop("bootstrap_servers"))
        return cls(bootstrap_servers=servers, **cast("ProducerOptions", given))

    def replace(
        self,
        *,
        bootstrap_servers: str | Sequence[str] | None = None,
        **changes: Unpack[ProducerOptions],
    ) -> Self:
        """Make a config with some options changed.

        Only options that were given count as given in the new one: after `acks=1` has switched
        off idempotence, `replace(acks="all")` switches it on again.
        """
        given = {**self._given, **changes}
        if bootstrap_servers is not None:
            given["bootstrap_servers"] = bootstrap_servers
        return self._from_given(given, "bootstrap_servers")

    @property
    def bootstrap_addresses(self) -> tuple[tuple[str, int], ...]:
        """`bootstrap_servers` as pairs of host (IPv6 without brackets) and port."""
        return tuple(split_host_port(server) for server in self.bootstrap_servers)

    @property
    def compression_level(self) -> int | None:
        """The level that belongs to `compression_type`; None for a type without levels."""
        match self.compression_type:
            case "gzip":
                return self.compression_gzip_level
            case "lz4":
                return self.compression_lz4_level
            case "zstd":
                return self.compression_zstd_level
            case "none" | "snappy":
                return None

    @property
    def uses_tls(self) -> bool:
        """Whether connections use TLS."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether connections log in by SASL."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def __repr__(self) -> str:
        """Show the options that differ from their defaults, functions and contexts by name."""
        shown = [f"bootstrap_servers={','.join(self.bootstrap_servers)!r}"]
        for name, default in _DEFAULTS.items():
            value: object = getattr(self, name)
            if value != default:
                plain = isinstance(value, str | int | float)
                shown.append(f"{name}={repr(value) if plain else _name_of(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    # What options ask of each other, as in Java's ProducerConfig and KafkaProducer (4.3).

    def _resolve_idempotence(self) -> None:
        is_transactional = self.transactional_id is not None
        if is_transactional and not self.enable_idempotence:
            raise ConfigError(
                option="enable_idempotence", value=False, allowed="True with a transactional_id"
            )
        if not self.enable_idempotence:
            return
        explicit = "enable_idempotence" in self._given or is_transactional
        # With a transactional_id, enable_idempotence=False is refused as well: it is no way out.
        reason = "a transactional_id" if is_transactional else "enable_idempotence=True"
        way_out = "" if is_transactional else ", or set enable_idempotence=False"
        for option, excluded, allowed in (
            ("acks", self.acks != -1, f"'all' with {reason}"),
            ("retries", self.retries == 0, f"above 0 with {reason}"),
        ):
            if not excluded:
                continue
            value: object = getattr(self, option)
            if explicit:
                hint = f"Leave {option} at its default{way_out}."
                raise ConfigError(option=option, value=value, allowed=allowed, hint=hint)
            logger.info("Idempotence is switched off because %s is %s", option, value)
            object.__setattr__(self, "enable_idempotence", False)
        # As in Java, also where acks=1 has just switched idempotence off.
        if self.max_in_flight_requests_per_connection > _IDEMPOTENCE_IN_FLIGHT:
            raise ConfigError(
                option="max_in_flight_requests_per_connection",
                value=self.max_in_flight_requests_per_connection,
                allowed=f"at most {_IDEMPOTENCE_IN_FLIGHT} for idempotence",
                hint=f"Lower it{way_out}.",
            )

    def _resolve_delivery_timeout(self) -> None:
        least = math.ceil(self.linger_ms + self.request_timeout_ms)
        if self.delivery_timeout_ms >= least:
            return
        if "delivery_timeout_ms" in self._given:
            raise ConfigError(
                option="delivery_timeout_ms",
                value=self.delivery_timeout_ms,
                allowed="at least linger_ms + request_timeout_ms, which is "
                f"{self.linger_ms:g} + {self.request_timeout_ms}",
                hint="Raise it, or lower one of these.",
            )
        logger.warning("delivery_timeout_ms is raised to linger_ms + request_timeout_ms, %d", least)
        object.__setattr__(self, "delivery_timeout_ms", least)

    def _check_security(self) -> None:
        values = {name: getattr(self, name) for name in _DEFAULTS}
        is_local = all(_is_local(host) for host, _ in self.bootstrap_addresses)
        check_security(values, _DEFAULTS, is_local=is_local)

    def _advise_milliseconds(self) -> None:
        for name, value in self._given.items():
            usual = _DEFAULTS.get(name)
            if not name.endswith("_ms") or not isinstance(usual, int) or usual < _SECONDS_LONG:
                continue
            if isinstance(value, int | float) and 0 < value < _TOO_SHORT:
                logger.warning(
                    "%s=%s is %g s: are seconds meant? The option is in milliseconds",
                    name,
                    value,
                    value / 1000,
                )

    def _advise_more_servers(self) -> None:
        if len(self.bootstrap_servers) == 1:
            ((host, _),) = self.bootstrap_addresses
            if not _is_local(host):
                logger.info(
                    "bootstrap_servers names one broker, %s: name two or three, so that the "
                    "producer can start while one is down",
                    self.bootstrap_servers[0],
                )


_RULES: Final[Mapping[str, Rule]] = {
    name: hint.__metadata__[0]
    for name, hint in ProducerConfig.__annotations__.items()
    if not name.startswith("_")
}
_DEFAULTS: Final[dict[str, object]] = {
    option.name: option.default
    for option in dataclasses.fields(ProducerConfig)
    if option.default is not dataclasses.MISSING
}


def options_in_environment(environ: Mapping[str, str], prefix: str) -> dict[str, object]:
    """Read the options that are in environment variables, each on its own.

    Raises:
        ConfigError: The value of a variable is impossible.
    """
    given: dict[str, object] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        name = variable.removeprefix(prefix).lower()
        if name in _RULES and variable == prefix + name.upper():
            given[name] = _read(name, variable, text)
        elif prefix and (close := _closest(name, cutoff=0.9)):
            suggestion = prefix + close.upper()
            logger.warning("%s is no option; did you mean %s?", variable, suggestion)
    return given


def _read(name: str, label: str, value: object) -> object:
    """Read a value that may be a text; errors name the option as the user wrote it."""
    rule = _RULES[name]
    return rule.parse(label, value) if isinstance(value, str) else rule.check(label, value)


def _unknown(label: str) -> ConfigError:
    name = label.replace(".", "_")
    hint = "ProducerConfig documents all options."
    if name.startswith("ssl_"):
        hint = "Build an ssl.SSLContext for what no option is for, and pass it as ssl_context."
    if close := _closest(name):
        hint = f"Did you mean {close.replace('_', '.') if '.' in label else close}?"
    return ConfigError("no such option", option=label, hint=hint)


def _closest(name: str, *, cutoff: float = 0.6) -> str | None:
    """Return the option whose name is most like this one, if any is."""
    import difflib  # for misspelt names only

    return next(iter(difflib.get_close_matches(name, _RULES, n=1, cutoff=cutoff)), None)


def _name_of(value: object) -> str:
    return f"<{getattr(value, '__qualname__', type(value).__qualname__)}>"


def _is_local(host: str) -> bool:
    return re.fullmatch(r"(.+\.)?localhost|127(\.[0-9]+){3}|::1", host.lower()) is not None
