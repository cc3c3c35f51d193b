"""Kafka's error codes as one table, and the class that stands for each.

Mirrors org.apache.kafka.common.protocol.Errors (4.3). A class is made at its first use, by name or
by code: a producer meets a dozen of the 134.

broker.pyi declares the classes to type checkers. `python -m tools.error_stubs` makes it from the
table, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final, TypeAlias, Unpack, cast

from aioproducer.errors.base import ErrorContext, KafkaError
from aioproducer.errors.client import (
    AuthenticationError,
    RecordTooLargeError,
    UnknownErrorCodeError,
)

RETRIABLE: Final = 1
STALE_METADATA: Final = 2
MAYBE_STORED: Final = 4
FATAL: Final = 8

Row: TypeAlias = tuple[int, str, int, str, str]
"""Code, Kafka's name, flags, description, hint."""

# fmt: off
TABLE: Final[tuple[Row, ...]] = (
    (-1, "UNKNOWN_SERVER_ERROR", MAYBE_STORED,
     "The broker failed in a way it did not expect.",
     "Look for the cause in the broker's log."),
    (1, "OFFSET_OUT_OF_RANGE", 0,
     "The offset is outside the range the broker keeps.", ""),
    (2, "CORRUPT_MESSAGE", RETRIABLE,
     "The record batch failed its checksum, or a compacted topic got a record without key.",
     "Give every record of a compacted topic a key; if it has one, suspect the network."),
    (3, "UNKNOWN_TOPIC_OR_PARTITION", RETRIABLE | STALE_METADATA,
     "The broker does not know the topic or partition.",
     "Create the topic or allow auto-creation; the client needs the Describe permission."),
    (4, "INVALID_FETCH_SIZE", 0,
     "The fetch size is invalid.", ""),
    (5, "LEADER_NOT_AVAILABLE", RETRIABLE | STALE_METADATA,
     "The partition has no leader while one is being elected.", ""),
    # With acks=all a leader also answers this when it loses the leadership while an appended record
    # waits for the followers: the new leader may have it.
    (6, "NOT_LEADER_OR_FOLLOWER", RETRIABLE | STALE_METADATA | MAYBE_STORED,
     "The broker is no longer the leader of the partition.", ""),
    (7, "REQUEST_TIMED_OUT", RETRIABLE | MAYBE_STORED,
     "The request was not answered in time.",
     "Raise request_timeout_ms if the brokers are slow but healthy."),
    (8, "BROKER_NOT_AVAILABLE", 0,
     "The broker is not available.", ""),
    (9, "REPLICA_NOT_AVAILABLE", RETRIABLE | STALE_METADATA,
     "The replica is not available for the partition.", ""),
    (10, "MESSAGE_TOO_LARGE", 0,
     "The record batch is larger than the broker accepts.",
     "Raise message.max.bytes on the broker or max.message.bytes on the topic."),
    (11, "STALE_CONTROLLER_EPOCH", 0,
     "The controller moved to another broker.", ""),
    (12, "OFFSET_METADATA_TOO_LARGE", 0,
     "The metadata of the committed offset is too large.", ""),
    (13, "NETWORK_EXCEPTION", RETRIABLE | STALE_METADATA,
     "The connection to the broker was lost before it answered.", ""),
    (14, "COORDINATOR_LOAD_IN_PROGRESS", RETRIABLE,
     "The coordinator is still loading its state.", ""),
    (15, "COORDINATOR_NOT_AVAILABLE", RETRIABLE,
     "The coordinator is not available.", ""),
    (16, "NOT_COORDINATOR", RETRIABLE,
     "The broker is no longer the coordinator.", ""),
    (17, "INVALID_TOPIC_EXCEPTION", 0,
     "The topic name is not valid, or the topic cannot be written to.",
     "Use letters, digits, '.', '_' and '-', at most 249 of them, and not an internal topic."),
    (18, "RECORD_LIST_TOO_LARGE", 0,
     "The record batch is larger than a log segment of the topic.",
     "Lower batch_size, or raise segment.bytes on the topic."),
    (19, "NOT_ENOUGH_REPLICAS", RETRIABLE,
     "Fewer replicas are in sync than the topic's min.insync.replicas asks for.", ""),
    (20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", RETRIABLE | MAYBE_STORED,
     "The record was written, but to fewer replicas than min.insync.replicas asks for.", ""),
    (21, "INVALID_REQUIRED_ACKS", 0,
     "The broker does not take this value of acks.",
     "Set acks to 0, 1 or all."),
    (22, "ILLEGAL_GENERATION", 0,
     "The generation of the consumer group is not the current one.", ""),
    (23, "INCONSISTENT_GROUP_PROTOCOL", 0,
     "The member's protocols do not fit those of the consumer group.", ""),
    (24, "INVALID_GROUP_ID", 0,
     "The consumer group id is invalid.", ""),
    (25, "UNKNOWN_MEMBER_ID", 0,
     "The coordinator does not know this member of the consumer group.", ""),
    (26, "INVALID_SESSION_TIMEOUT", 0,
     "The session timeout is outside the range the broker allows.", ""),
    (27, "REBALANCE_IN_PROGRESS", 0,
     "The consumer group is rebalancing.", ""),
    (28, "INVALID_COMMIT_OFFSET_SIZE", 0,
     "The committed offset data is too large.", ""),
    (29, "TOPIC_AUTHORIZATION_FAILED", 0,
     "The client is not allowed to write to the topic.",
     "Grant the client's principal Write and Describe on the topic."),
    (30, "GROUP_AUTHORIZATION_FAILED", 0,
     "The client is not allowed to use the consumer group.",
     "Grant the client's principal Read on the group."),
    (31, "CLUSTER_AUTHORIZATION_FAILED", 0,
     "The client is not allowed to do this in the cluster.",
     "Grant the client's principal IdempotentWrite on the cluster, or Write on the topic."),
    (32, "INVALID_TIMESTAMP", 0,
     "The record's timestamp is outside the range the topic accepts.",
     "Compare timestamp_ms with the topic's message.timestamp limits; it counts milliseconds."),
    (33, "UNSUPPORTED_SASL_MECHANISM", 0,
     "The broker does not offer the SASL mechanism.",
     "Set sasl_mechanism to one that the broker offers."),
    (34, "ILLEGAL_SASL_STATE", 0,
     "The request does not fit the state of the SASL exchange.",
     "Check that security_protocol matches the broker's listener: is SASL missing?"),
    (35, "UNSUPPORTED_VERSION", FATAL,
     "The broker does not support the version of the request.", ""),
    (36, "TOPIC_ALREADY_EXISTS", 0,
     "The topic exists already.", ""),
    (37, "INVALID_PARTITIONS", 0,
     "The number of partitions is invalid.", ""),
    (38, "INVALID_REPLICATION_FACTOR", 0,
     "The replication factor is invalid or larger than the number of brokers.", ""),
    (39, "INVALID_REPLICA_ASSIGNMENT", 0,
     "The replica assignment is invalid.", ""),
    (40, "INVALID_CONFIG", 0,
     "The configuration is invalid.", ""),
    (41, "NOT_CONTROLLER", RETRIABLE,
     "The broker is not the controller of the cluster.", ""),
    (42, "INVALID_REQUEST", 0,
     "The broker could not make sense of the request.",
     "Look for the reason in the broker's log."),
    (43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", 0,
     "The topic's message format on the broker does not support the request.", ""),
    (44, "POLICY_VIOLATION", 0,
     "The request violates a policy of the cluster.", ""),
    (45, "OUT_OF_ORDER_SEQUENCE_NUMBER", 0,
     "The broker got a batch whose sequence number does not follow the last one.", ""),
    (46, "DUPLICATE_SEQUENCE_NUMBER", 0,
     "The broker has stored this batch already.", ""),
    (47, "INVALID_PRODUCER_EPOCH", 0,
     "The producer's epoch is older than the one the broker knows.", ""),
    (48, "INVALID_TXN_STATE", 0,
     "The transaction is not in a state that allows this.", ""),
    (49, "INVALID_PRODUCER_ID_MAPPING", FATAL,
     "The producer id does not belong to the transactional id.",
     "Abort the transaction: the next one gets another producer id."),
    (50, "INVALID_TRANSACTION_TIMEOUT", 0,
     "The transaction timeout is larger than the broker allows.",
     "Lower transaction_timeout_ms, or raise transaction.max.timeout.ms on the broker."),
    (51, "CONCURRENT_TRANSACTIONS", RETRIABLE,
     "Another operation on the same transaction is still running.", ""),
    (52, "TRANSACTION_COORDINATOR_FENCED", 0,
     "The transaction coordinator was replaced by a newer one.", ""),
    (53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", FATAL,
     "The client is not allowed to use the transactional id.",
     "Grant the client's principal Write and Describe on the transactional id."),
    (54, "SECURITY_DISABLED", 0,
     "Security features are disabled on the broker.", ""),
    (55, "OPERATION_NOT_ATTEMPTED", 0,
     "The broker did not try this operation because another one of the request failed.", ""),
    # The disk may fail while a record waits for followers that have it already.
    (56, "KAFKA_STORAGE_ERROR", RETRIABLE | STALE_METADATA | MAYBE_STORED,
     "The broker has trouble with the disk that holds the partition.", ""),
    (57, "LOG_DIR_NOT_FOUND", 0,
     "The log directory is not in the broker's configuration.", ""),
    (58, "SASL_AUTHENTICATION_FAILED", 0,
     "The broker refused the SASL credentials.",
     "Check the user name, password or token, and sasl_mechanism."),
    (59, "UNKNOWN_PRODUCER_ID", 0,
     "The broker has no state for the producer id, perhaps because its records expired.", ""),
    (60, "REASSIGNMENT_IN_PROGRESS", 0,
     "A reassignment of the partition is in progress.", ""),
    (61, "DELEGATION_TOKEN_AUTH_DISABLED", 0,
     "Delegation tokens are not enabled.", ""),
    (62, "DELEGATION_TOKEN_NOT_FOUND", 0,
     "The broker does not know the delegation token.", ""),
    (63, "DELEGATION_TOKEN_OWNER_MISMATCH", 0,
     "The principal is not an owner or renewer of the delegation token.", ""),
    (64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", 0,
     "Delegation token requests are not allowed on this connection.", ""),
    (65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", 0,
     "The client is not allowed to use the delegation token.", ""),
    (66, "DELEGATION_TOKEN_EXPIRED", 0,
     "The delegation token has expired.", ""),
    (67, "INVALID_PRINCIPAL_TYPE", 0,
     "The principal type is not supported.", ""),
    (68, "NON_EMPTY_GROUP", 0,
     "The consumer group is not empty.", ""),
    (69, "GROUP_ID_NOT_FOUND", 0,
     "The consumer group does not exist.", ""),
    (70, "FETCH_SESSION_ID_NOT_FOUND", RETRIABLE,
     "The broker does not know the fetch session.", ""),
    (71, "INVALID_FETCH_SESSION_EPOCH", RETRIABLE,
     "The epoch of the fetch session is invalid.", ""),
    (72, "LISTENER_NOT_FOUND", RETRIABLE | STALE_METADATA,
     "The leader has no listener like the one the metadata was asked on.",
     "Give every broker the same listeners."),
    (73, "TOPIC_DELETION_DISABLED", 0,
     "Topic deletion is disabled.", ""),
    (74, "FENCED_LEADER_EPOCH", RETRIABLE | STALE_METADATA,
     "The leader epoch of the request is older than the broker's.", ""),
    (75, "UNKNOWN_LEADER_EPOCH", RETRIABLE,
     "The leader epoch of the request is newer than the broker's.", ""),
    (76, "UNSUPPORTED_COMPRESSION_TYPE", 0,
     "The broker does not take this compression type for the partition.",
     "Choose another compression_type."),
    (77, "STALE_BROKER_EPOCH", 0,
     "The epoch of the broker has changed.", ""),
    (78, "OFFSET_NOT_AVAILABLE", RETRIABLE,
     "The new leader cannot answer for this offset yet.", ""),
    (79, "MEMBER_ID_REQUIRED", 0,
     "The member needs an id before it can join the consumer group.", ""),
    (80, "PREFERRED_LEADER_NOT_AVAILABLE", RETRIABLE | STALE_METADATA,
     "The preferred leader is not available.", ""),
    (81, "GROUP_MAX_SIZE_REACHED", 0,
     "The consumer group is full.", ""),
    (82, "FENCED_INSTANCE_ID", 0,
     "Another consumer with the same group.instance.id has taken over.", ""),
    (83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", RETRIABLE | STALE_METADATA,
     "No replica that could lead the partition is available.", ""),
    (84, "ELECTION_NOT_NEEDED", RETRIABLE | STALE_METADATA,
     "The partition needs no leader election.", ""),
    (85, "NO_REASSIGNMENT_IN_PROGRESS", 0,
     "No reassignment of the partition is in progress.", ""),
    (86, "GROUP_SUBSCRIBED_TO_TOPIC", 0,
     "The consumer group is subscribed to the topic.", ""),
    (87, "INVALID_RECORD", 0,
     "The record is not valid.",
     "If it is a compacted topic (cleanup.policy), give every record a key."),
    (88, "UNSTABLE_OFFSET_COMMIT", RETRIABLE,
     "Some offset commits are not stable yet.", ""),
    (89, "THROTTLING_QUOTA_EXCEEDED", RETRIABLE,
     "The client is over its quota.",
     "Raise the client's quota, or send less."),
    (90, "PRODUCER_FENCED", FATAL,
     "Another producer with the same transactional id has taken over.",
     "Run one producer per transactional_id; close this one."),
    (91, "RESOURCE_NOT_FOUND", 0,
     "The request names a resource that does not exist.", ""),
    (92, "DUPLICATE_RESOURCE", 0,
     "The request names the same resource twice.", ""),
    (93, "UNACCEPTABLE_CREDENTIAL", 0,
     "The credential does not meet the broker's criteria.", ""),
    (94, "INCONSISTENT_VOTER_SET", 0,
     "The sender or receiver is not among the expected voters.", ""),
    (95, "INVALID_UPDATE_VERSION", 0,
     "The version of the update is invalid.", ""),
    (96, "FEATURE_UPDATE_FAILED", 0,
     "The finalized features could not be updated.", ""),
    (97, "PRINCIPAL_DESERIALIZATION_FAILURE", 0,
     "A forwarding broker could not read the principal.", ""),
    (98, "SNAPSHOT_NOT_FOUND", 0,
     "The snapshot does not exist.", ""),
    (99, "POSITION_OUT_OF_RANGE", 0,
     "The position is outside the snapshot.", ""),
    (100, "UNKNOWN_TOPIC_ID", RETRIABLE | STALE_METADATA,
     "The broker does not know the topic id, perhaps because the topic was recreated.", ""),
    (101, "DUPLICATE_BROKER_REGISTRATION", 0,
     "The broker id is in use already.", ""),
    (102, "BROKER_ID_NOT_REGISTERED", 0,
     "The broker id is not registered.", ""),
    (103, "INCONSISTENT_TOPIC_ID", RETRIABLE | STALE_METADATA,
     "The topic id of the request is not the one in the broker's log.", ""),
    (104, "INCONSISTENT_CLUSTER_ID", 0,
     "The cluster id of the request is not the broker's.", ""),
    (105, "TRANSACTIONAL_ID_NOT_FOUND", 0,
     "The transactional id does not exist.", ""),
    (106, "FETCH_SESSION_TOPIC_ID_ERROR", RETRIABLE,
     "The fetch session mixes topic ids and names.", ""),
    (107, "INELIGIBLE_REPLICA", 0,
     "The new in-sync replicas hold one that is not eligible.", ""),
    (108, "NEW_LEADER_ELECTED", 0,
     "The partition was changed, but its leader is another one now.", ""),
    (109, "OFFSET_MOVED_TO_TIERED_STORAGE", 0,
     "The offset has moved to tiered storage.", ""),
    (110, "FENCED_MEMBER_EPOCH", 0,
     "The epoch of the consumer group member is fenced.", ""),
    (111, "UNRELEASED_INSTANCE_ID", 0,
     "Another member of the consumer group still uses the instance id.", ""),
    (112, "UNSUPPORTED_ASSIGNOR", 0,
     "The consumer group does not support the assignor.", ""),
    (113, "STALE_MEMBER_EPOCH", 0,
     "The epoch of the consumer group member is stale.", ""),
    (114, "MISMATCHED_ENDPOINT_TYPE", 0,
     "The request went to an endpoint of the wrong type.",
     "Put brokers, not controllers, into bootstrap_servers."),
    (115, "UNSUPPORTED_ENDPOINT_TYPE", 0,
     "The type of endpoint is not supported.", ""),
    (116, "UNKNOWN_CONTROLLER_ID", 0,
     "The controller id is not known.", ""),
    (117, "UNKNOWN_SUBSCRIPTION_ID", 0,
     "The telemetry subscription is unknown or outdated.", ""),
    (118, "TELEMETRY_TOO_LARGE", 0,
     "The telemetry is larger than the broker accepts.", ""),
    (119, "INVALID_REGISTRATION", 0,
     "The controller found the broker's registration invalid.", ""),
    (120, "TRANSACTION_ABORTABLE", 0,
     "The transaction failed and can be aborted.",
     "Abort the transaction; then the producer can go on."),
    (121, "INVALID_RECORD_STATE", 0,
     "The record is not in a state that can be acknowledged.", ""),
    (122, "SHARE_SESSION_NOT_FOUND", RETRIABLE,
     "The broker does not know the share session.", ""),
    (123, "INVALID_SHARE_SESSION_EPOCH", RETRIABLE,
     "The epoch of the share session is invalid.", ""),
    (124, "FENCED_STATE_EPOCH", 0,
     "The epoch of the share group's state is fenced.", ""),
    (125, "INVALID_VOTER_KEY", 0,
     "The voter key is not the receiver's.", ""),
    (126, "DUPLICATE_VOTER", 0,
     "The voter is in the set of voters already.", ""),
    (127, "VOTER_NOT_FOUND", 0,
     "The voter is not in the set of voters.", ""),
    (128, "INVALID_REGULAR_EXPRESSION", 0,
     "The regular expression is invalid.", ""),
    (129, "REBOOTSTRAP_REQUIRED", 0,
     "The client's view of the cluster is stale: it has to bootstrap again.", ""),
    (130, "STREAMS_INVALID_TOPOLOGY", 0,
     "The topology of the streams group is invalid.", ""),
    (131, "STREAMS_INVALID_TOPOLOGY_EPOCH", 0,
     "The topology epoch of the streams group is invalid.", ""),
    (132, "STREAMS_TOPOLOGY_FENCED", 0,
     "The topology epoch of the streams group is outdated.", ""),
    (133, "SHARE_SESSION_LIMIT_REACHED", RETRIABLE,
     "The broker holds as many share sessions as it allows.", ""),
)
# fmt: on

_NETWORK_EXCEPTION: Final = 13
_MAX_BROKER_TEXT: Final = 500
_BASES: Final[Mapping[str, type[KafkaError]]] = {
    "IllegalSaslStateError": AuthenticationError,
    "MessageTooLargeError": RecordTooLargeError,
    "SaslAuthenticationFailedError": AuthenticationError,
    "UnsupportedSaslMechanismError": AuthenticationError,
}


def _class_name(name: str) -> str:
    words = name.removesuffix("_ERROR").removesuffix("_EXCEPTION").split("_")
    return "".join(map(str.capitalize, words)) + "Error"


_BY_CODE: Final[Mapping[int, Row]] = {row[0]: row for row in TABLE}
_BY_CLASS_NAME: Final[Mapping[str, Row]] = {_class_name(row[1]): row for row in TABLE}

__all__ = ["broker_error", "error_for_code"]
__all__ += _BY_CLASS_NAME  # pyright: ignore[reportUnsupportedDunderAll]


@cache
def _class_for(row: Row) -> type[KafkaError]:
    code, name, flags, description, hint = row
    class_name = _class_name(name)
    body = {
        # Where users import it from, and where `pickle` looks for it.
        "__module__": "aioproducer.errors",
        "__doc__": description,
        "code": code,
        "name": name,
        "retriable": bool(flags & RETRIABLE),
        "refreshes_metadata": bool(flags & STALE_METADATA),
        "leaves_outcome_unknown": bool(flags & MAYBE_STORED),
        "fatal": bool(flags & FATAL),
        "hint": hint,
    }
    bases = (_BASES.get(class_name, KafkaError),)
    return cast("type[KafkaError]", type(class_name, bases, body))


def __getattr__(name: str) -> type[KafkaError]:
    row = _BY_CLASS_NAME.get(name)
    if row is None:
        raise AttributeError(f"module 'aioproducer.errors' has no attribute {name!r}")
    return _class_for(row)


def error_for_code(code: int) -> type[KafkaError]:
    """Return the class for a broker's error code.

    Args:
        code: The number on the wire; not 0, which means success.

    Returns:
        The class with that `code`, or `UnknownErrorCodeError`.
    """
    if code == 0:
        raise ValueError("error code 0 means success")
    row = _BY_CODE.get(code)
    return UnknownErrorCodeError if row is None else _class_for(row)


def broker_error(
    code: int, message: str | None = None, **context: Unpack[ErrorContext]
) -> KafkaError:
    """Make the error for an error code in a broker's response.

    Args:
        code: The number on the wire; not 0.
        message: The broker's own text, if it sent one. Cut to a bounded length.
        **context: The keywords of `KafkaError`.
    """
    cls = error_for_code(code)
    text = " ".join((message or "")[:_MAX_BROKER_TEXT].split())
    if code == _NETWORK_EXCEPTION:
        # The broker lost a request on a connection of its own.
        context.setdefault("possibly_persisted", True)
    if cls is UnknownErrorCodeError:
        return UnknownErrorCodeError(text, unknown_code=code, **context)
    return cls(text, **context)
