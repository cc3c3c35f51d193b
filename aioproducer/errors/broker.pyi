"""The classes of broker.py; made from its table by `python -m tools.error_stubs`."""

from typing import Unpack

from aioproducer.errors.base import ErrorContext, KafkaError
from aioproducer.errors.client import AuthenticationError, RecordTooLargeError

__all__ = [
    "BrokerIdNotRegisteredError",
    "BrokerNotAvailableError",
    "ClusterAuthorizationFailedError",
    "ConcurrentTransactionsError",
    "CoordinatorLoadInProgressError",
    "CoordinatorNotAvailableError",
    "CorruptMessageError",
    "DelegationTokenAuthDisabledError",
    "DelegationTokenAuthorizationFailedError",
    "DelegationTokenExpiredError",
    "DelegationTokenNotFoundError",
    "DelegationTokenOwnerMismatchError",
    "DelegationTokenRequestNotAllowedError",
    "DuplicateBrokerRegistrationError",
    "DuplicateResourceError",
    "DuplicateSequenceNumberError",
    "DuplicateVoterError",
    "ElectionNotNeededError",
    "EligibleLeadersNotAvailableError",
    "FeatureUpdateFailedError",
    "FencedInstanceIdError",
    "FencedLeaderEpochError",
    "FencedMemberEpochError",
    "FencedStateEpochError",
    "FetchSessionIdNotFoundError",
    "FetchSessionTopicIdError",
    "GroupAuthorizationFailedError",
    "GroupIdNotFoundError",
    "GroupMaxSizeReachedError",
    "GroupSubscribedToTopicError",
    "IllegalGenerationError",
    "IllegalSaslStateError",
    "InconsistentClusterIdError",
    "InconsistentGroupProtocolError",
    "InconsistentTopicIdError",
    "InconsistentVoterSetError",
    "IneligibleReplicaError",
    "InvalidCommitOffsetSizeError",
    "InvalidConfigError",
    "InvalidFetchSessionEpochError",
    "InvalidFetchSizeError",
    "InvalidGroupIdError",
    "InvalidPartitionsError",
    "InvalidPrincipalTypeError",
    "InvalidProducerEpochError",
    "InvalidProducerIdMappingError",
    "InvalidRecordError",
    "InvalidRecordStateError",
    "InvalidRegistrationError",
    "InvalidRegularExpressionError",
    "InvalidReplicaAssignmentError",
    "InvalidReplicationFactorError",
    "InvalidRequestError",
    "InvalidRequiredAcksError",
    "InvalidSessionTimeoutError",
    "InvalidShareSessionEpochError",
    "InvalidTimestampError",
    "InvalidTopicError",
    "InvalidTransactionTimeoutError",
    "InvalidTxnStateError",
    "InvalidUpdateVersionError",
    "InvalidVoterKeyError",
    "KafkaStorageError",
    "LeaderNotAvailableError",
    "ListenerNotFoundError",
    "LogDirNotFoundError",
    "MemberIdRequiredError",
    "MessageTooLargeError",
    "MismatchedEndpointTypeError",
    "NetworkError",
    "NewLeaderElectedError",
    "NoReassignmentInProgressError",
    "NonEmptyGroupError",
    "NotControllerError",
    "NotCoordinatorError",
    "NotEnoughReplicasAfterAppendError",
    "NotEnoughReplicasError",
    "NotLeaderOrFollowerError",
    "OffsetMetadataTooLargeError",
    "OffsetMovedToTieredStorageError",
    "OffsetNotAvailableError",
    "OffsetOutOfRangeError",
    "OperationNotAttemptedError",
    "OutOfOrderSequenceNumberError",
    "PolicyViolationError",
    "PositionOutOfRangeError",
    "PreferredLeaderNotAvailableError",
    "PrincipalDeserializationFailureError",
    "ProducerFencedError",
    "ReassignmentInProgressError",
    "RebalanceInProgressError",
    "RebootstrapRequiredError",
    "RecordListTooLargeError",
    "ReplicaNotAvailableError",
    "RequestTimedOutError",
    "ResourceNotFoundError",
    "SaslAuthenticationFailedError",
    "SecurityDisabledError",
    "ShareSessionLimitReachedError",
    "ShareSessionNotFoundError",
    "SnapshotNotFoundError",
    "StaleBrokerEpochError",
    "StaleControllerEpochError",
    "StaleMemberEpochError",
    "StreamsInvalidTopologyEpochError",
    "StreamsInvalidTopologyError",
    "StreamsTopologyFencedError",
    "TelemetryTooLargeError",
    "ThrottlingQuotaExceededError",
    "TopicAlreadyExistsError",
    "TopicAuthorizationFailedError",
    "TopicDeletionDisabledError",
    "TransactionAbortableError",
    "TransactionCoordinatorFencedError",
    "TransactionalIdAuthorizationFailedError",
    "TransactionalIdNotFoundError",
    "UnacceptableCredentialError",
    "UnknownControllerIdError",
    "UnknownLeaderEpochError",
    "UnknownMemberIdError",
    "UnknownProducerIdError",
    "UnknownServerError",
    "UnknownSubscriptionIdError",
    "UnknownTopicIdError",
    "UnknownTopicOrPartitionError",
    "UnreleasedInstanceIdError",
    "UnstableOffsetCommitError",
    "UnsupportedAssignorError",
    "UnsupportedCompressionTypeError",
    "UnsupportedEndpointTypeError",
    "UnsupportedForMessageFormatError",
    "UnsupportedSaslMechanismError",
    "UnsupportedVersionError",
    "VoterNotFoundError",
    "broker_error",
    "error_for_code",
]

def error_for_code(code: int) -> type[KafkaError]: ...
def broker_error(
    code: int, message: str | None = None, **context: Unpack[ErrorContext]
) -> KafkaError: ...

class UnknownServerError(KafkaError):
    """The broker failed in a way it did not expect."""

class OffsetOutOfRangeError(KafkaError):
    """The offset is outside the range the broker keeps."""

class CorruptMessageError(KafkaError):
    """The record batch failed its checksum, or a compacted topic got a record without key."""

class UnknownTopicOrPartitionError(KafkaError):
    """The broker does not know the topic or partition."""

class InvalidFetchSizeError(KafkaError):
    """The fetch size is invalid."""

class LeaderNotAvailableError(KafkaError):
    """The partition has no leader while one is being elected."""

class NotLeaderOrFollowerError(KafkaError):
    """The broker is no longer the leader of the partition."""

class RequestTimedOutError(KafkaError):
    """The request was not answered in time."""

class BrokerNotAvailableError(KafkaError):
    """The broker is not available."""

class ReplicaNotAvailableError(KafkaError):
    """The replica is not available for the partition."""

class MessageTooLargeError(RecordTooLargeError):
    """The record batch is larger than the broker accepts."""

class StaleControllerEpochError(KafkaError):
    """The controller moved to another broker."""

class OffsetMetadataTooLargeError(KafkaError):
    """The metadata of the committed offset is too large."""

class NetworkError(KafkaError):
    """The connection to the broker was lost before it answered."""

class CoordinatorLoadInProgressError(KafkaError):
    """The coordinator is still loading its state."""

class CoordinatorNotAvailableError(KafkaError):
    """The coordinator is not available."""

class NotCoordinatorError(KafkaError):
    """The broker is no longer the coordinator."""

class InvalidTopicError(KafkaError):
    """The topic name is not valid, or the topic cannot be written to."""

class RecordListTooLargeError(KafkaError):
    """The record batch is larger than a log segment of the topic."""

class NotEnoughReplicasError(KafkaError):
    """Fewer replicas are in sync than the topic's min.insync.replicas asks for."""

class NotEnoughReplicasAfterAppendError(KafkaError):
    """The record was written, but to fewer replicas than min.insync.replicas asks for."""

class InvalidRequiredAcksError(KafkaError):
    """The broker does not take this value of acks."""

class IllegalGenerationError(KafkaError):
    """The generation of the consumer group is not the current one."""

class InconsistentGroupProtocolError(KafkaError):
    """The member's protocols do not fit those of the consumer group."""

class InvalidGroupIdError(KafkaError):
    """The consumer group id is invalid."""

class UnknownMemberIdError(KafkaError):
    """The coordinator does not know this member of the consumer group."""

class InvalidSessionTimeoutError(KafkaError):
    """The session timeout is outside the range the broker allows."""

class RebalanceInProgressError(KafkaError):
    """The consumer group is rebalancing."""

class InvalidCommitOffsetSizeError(KafkaError):
    """The committed offset data is too large."""

class TopicAuthorizationFailedError(KafkaError):
    """The client is not allowed to write to the topic."""

class GroupAuthorizationFailedError(KafkaError):
    """The client is not allowed to use the consumer group."""

class ClusterAuthorizationFailedError(KafkaError):
    """The client is not allowed to do this in the cluster."""

class InvalidTimestampError(KafkaError):
    """The record's timestamp is outside the range the topic accepts."""

class UnsupportedSaslMechanismError(AuthenticationError):
    """The broker does not offer the SASL mechanism."""

class IllegalSaslStateError(AuthenticationError):
    """The request does not fit the state of the SASL exchange."""

class UnsupportedVersionError(KafkaError):
    """The broker does not support the version of the request."""

class TopicAlreadyExistsError(KafkaError):
    """The topic exists already."""

class InvalidPartitionsError(KafkaError):
    """The number of partitions is invalid."""

class InvalidReplicationFactorError(KafkaError):
    """The replication factor is invalid or larger than the number of brokers."""

class InvalidReplicaAssignmentError(KafkaError):
    """The replica assignment is invalid."""

class InvalidConfigError(KafkaError):
    """The configuration is invalid."""

class NotControllerError(KafkaError):
    """The broker is not the controller of the cluster."""

class InvalidRequestError(KafkaError):
    """The broker could not make sense of the request."""

class UnsupportedForMessageFormatError(KafkaError):
    """The topic's message format on the broker does not support the request."""

class PolicyViolationError(KafkaError):
    """The request violates a policy of the cluster."""

class OutOfOrderSequenceNumberError(KafkaError):
    """The broker got a batch whose sequence number does not follow the last one."""

class DuplicateSequenceNumberError(KafkaError):
    """The broker has stored this batch already."""

class InvalidProducerEpochError(KafkaError):
    """The producer's epoch is older than the one the broker knows."""

class InvalidTxnStateError(KafkaError):
    """The transaction is not in a state that allows this."""

class InvalidProducerIdMappingError(KafkaError):
    """The producer id does not belong to the transactional id."""

class InvalidTransactionTimeoutError(KafkaError):
    """The transaction timeout is larger than the broker allows."""

class ConcurrentTransactionsError(KafkaError):
    """Another operation on the same transaction is still running."""

class TransactionCoordinatorFencedError(KafkaError):
    """The transaction coordinator was replaced by a newer one."""

class TransactionalIdAuthorizationFailedError(KafkaError):
    """The client is not allowed to use the transactional id."""

class SecurityDisabledError(KafkaError):
    """Security features are disabled on the broker."""

class OperationNotAttemptedError(KafkaError):
    """The broker did not try this operation because another one of the request failed."""

class KafkaStorageError(KafkaError):
    """The broker has trouble with the disk that holds the partition."""

class LogDirNotFoundError(KafkaError):
    """The log directory is not in the broker's configuration."""

class SaslAuthenticationFailedError(AuthenticationError):
    """The broker refused the SASL credentials."""

class UnknownProducerIdError(KafkaError):
    """The broker has no state for the producer id, perhaps because its records expired."""

class ReassignmentInProgressError(KafkaError):
    """A reassignment of the partition is in progress."""

class DelegationTokenAuthDisabledError(KafkaError):
    """Delegation tokens are not enabled."""

class DelegationTokenNotFoundError(KafkaError):
    """The broker does not know the delegation token."""

class DelegationTokenOwnerMismatchError(KafkaError):
    """The principal is not an owner or renewer of the delegation token."""

class DelegationTokenRequestNotAllowedError(KafkaError):
    """Delegation token requests are not allowed on this connection."""

class DelegationTokenAuthorizationFailedError(KafkaError):
    """The client is not allowed to use the delegation token."""

class DelegationTokenExpiredError(KafkaError):
    """The delegation token has expired."""

class InvalidPrincipalTypeError(KafkaError):
    """The principal type is not supported."""

class NonEmptyGroupError(KafkaError):
    """The consumer group is not empty."""

class GroupIdNotFoundError(KafkaError):
    """The consumer group does not exist."""

class FetchSessionIdNotFoundError(KafkaError):
    """The broker does not know the fetch session."""

class InvalidFetchSessionEpochError(KafkaError):
    """The epoch of the fetch session is invalid."""

class ListenerNotFoundError(KafkaError):
    """The leader has no listener like the one the metadata was asked on."""

class TopicDeletionDisabledError(KafkaError):
    """Topic deletion is disabled."""

class FencedLeaderEpochError(KafkaError):
    """The leader epoch of the request is older than the broker's."""

class UnknownLeaderEpochError(KafkaError):
    """The leader epoch of the request is newer than the broker's."""

class UnsupportedCompressionTypeError(KafkaError):
    """The broker does not take this compression type for the partition."""

class StaleBrokerEpochError(KafkaError):
    """The epoch of the broker has changed."""

class OffsetNotAvailableError(KafkaError):
    """The new leader cannot answer for this offset yet."""

class MemberIdRequiredError(KafkaError):
    """The member needs an id before it can join the consumer group."""

class PreferredLeaderNotAvailableError(KafkaError):
    """The preferred leader is not available."""

class GroupMaxSizeReachedError(KafkaError):
    """The consumer group is full."""

class FencedInstanceIdError(KafkaError):
    """Another consumer with the same group.instance.id has taken over."""

class EligibleLeadersNotAvailableError(KafkaError):
    """No replica that could lead the partition is available."""

class ElectionNotNeededError(KafkaError):
    """The partition needs no leader election."""

class NoReassignmentInProgressError(KafkaError):
    """No reassignment of the partition is in progress."""

class GroupSubscribedToTopicError(KafkaError):
    """The consumer group is subscribed to the topic."""

class InvalidRecordError(KafkaError):
    """The record is not valid."""

class UnstableOffsetCommitError(KafkaError):
    """Some offset commits are not stable yet."""

class ThrottlingQuotaExceededError(KafkaError):
    """The client is over its quota."""

class ProducerFencedError(KafkaError):
    """Another producer with the same transactional id has taken over."""

class ResourceNotFoundError(KafkaError):
    """The request names a resource that does not exist."""

class DuplicateResourceError(KafkaError):
    """The request names the same resource twice."""

class UnacceptableCredentialError(KafkaError):
    """The credential does not meet the broker's criteria."""

class InconsistentVoterSetError(KafkaError):
    """The sender or receiver is not among the expected voters."""

class InvalidUpdateVersionError(KafkaError):
    """The version of the update is invalid."""

class FeatureUpdateFailedError(KafkaError):
    """The finalized features could not be updated."""

class PrincipalDeserializationFailureError(KafkaError):
    """A forwarding broker could not read the principal."""

class SnapshotNotFoundError(KafkaError):
    """The snapshot does not exist."""

class PositionOutOfRangeError(KafkaError):
    """The position is outside the snapshot."""

class UnknownTopicIdError(KafkaError):
    """The broker does not know the topic id, perhaps because the topic was recreated."""

class DuplicateBrokerRegistrationError(KafkaError):
    """The broker id is in use already."""

class BrokerIdNotRegisteredError(KafkaError):
    """The broker id is not registered."""

class InconsistentTopicIdError(KafkaError):
    """The topic id of the request is not the one in the broker's log."""

class InconsistentClusterIdError(KafkaError):
    """The cluster id of the request is not the broker's."""

class TransactionalIdNotFoundError(KafkaError):
    """The transactional id does not exist."""

class FetchSessionTopicIdError(KafkaError):
    """The fetch session mixes topic ids and names."""

class IneligibleReplicaError(KafkaError):
    """The new in-sync replicas hold one that is not eligible."""

class NewLeaderElectedError(KafkaError):
    """The partition was changed, but its leader is another one now."""

class OffsetMovedToTieredStorageError(KafkaError):
    """The offset has moved to tiered storage."""

class FencedMemberEpochError(KafkaError):
    """The epoch of the consumer group member is fenced."""

class UnreleasedInstanceIdError(KafkaError):
    """Another member of the consumer group still uses the instance id."""

class UnsupportedAssignorError(KafkaError):
    """The consumer group does not support the assignor."""

class StaleMemberEpochError(KafkaError):
    """The epoch of the consumer group member is stale."""

class MismatchedEndpointTypeError(KafkaError):
    """The request went to an endpoint of the wrong type."""

class UnsupportedEndpointTypeError(KafkaError):
    """The type of endpoint is not supported."""

class UnknownControllerIdError(KafkaError):
    """The controller id is not known."""

class UnknownSubscriptionIdError(KafkaError):
    """The telemetry subscription is unknown or outdated."""

class TelemetryTooLargeError(KafkaError):
    """The telemetry is larger than the broker accepts."""

class InvalidRegistrationError(KafkaError):
    """The controller found the broker's registration invalid."""

class TransactionAbortableError(KafkaError):
    """The transaction failed and can be aborted."""

class InvalidRecordStateError(KafkaError):
    """The record is not in a state that can be acknowledged."""

class ShareSessionNotFoundError(KafkaError):
    """The broker does not know the share session."""

class InvalidShareSessionEpochError(KafkaError):
    """The epoch of the share session is invalid."""

class FencedStateEpochError(KafkaError):
    """The epoch of the share group's state is fenced."""

class InvalidVoterKeyError(KafkaError):
    """The voter key is not the receiver's."""

class DuplicateVoterError(KafkaError):
    """The voter is in the set of voters already."""

class VoterNotFoundError(KafkaError):
    """The voter is not in the set of voters."""

class InvalidRegularExpressionError(KafkaError):
    """The regular expression is invalid."""

class RebootstrapRequiredError(KafkaError):
    """The client's view of the cluster is stale: it has to bootstrap again."""

class StreamsInvalidTopologyError(KafkaError):
    """The topology of the streams group is invalid."""

class StreamsInvalidTopologyEpochError(KafkaError):
    """The topology epoch of the streams group is invalid."""

class StreamsTopologyFencedError(KafkaError):
    """The topology epoch of the streams group is outdated."""

class ShareSessionLimitReachedError(KafkaError):
    """The broker holds as many share sessions as it allows."""
