"""Asks the coordinator about the transaction of a batch before the batch is stored (KIP-890).

Part of Produce. A leader asks only for a producer's first batch in a transaction and partition:
what follows is known to belong to it. Mirrors ReplicaManager.handleProduceAppend
and AddPartitionsToTxnManager (Kafka 4.3).
"""

from __future__ import annotations

from typing import Final

from aioproducer.testing.apis.base import Turn
from aioproducer.testing.batch import BatchHeader
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.log import BatchRefusedError, PartitionLog
from aioproducer.testing.transaction_values import Pid, TransactionRefusedError

__all__ = ["verify"]

_KNOWS_ABORTABLE: Final = 11
"""The first version of Produce with the error TRANSACTION_ABORTABLE."""
_V2: Final = 12
"""From this version on the leader adds the partition to the transaction."""


def verify(header: BatchHeader, transactional_id: str, log: PartitionLog, turn: Turn) -> None:
    """Add the batch's partition to the transaction (v2), or ask whether it was added (v1).

    Raises:
        BatchRefusedError: The batch must not be stored.
    """
    if header.producer_id < 0 or not header.transactional:
        return
    pid = Pid(header.producer_id, header.producer_epoch)
    if log.producers.has_open_transaction(*pid):
        return
    is_v2 = turn.version >= _V2
    log.producers.verify(header, v2=is_v2)
    transactions = turn.state.transactions
    partition = (log.topic, log.partition)
    try:
        if turn.state.coordinators.node_of("transaction", transactional_id) == -1:
            raise TransactionRefusedError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if is_v2:
            transactions.add(transactional_id, pid, partitions=[partition], v2=True)
        else:
            transactions.check_added(transactional_id, pid, partition=partition)
    except TransactionRefusedError as error:
        raise _as_produce_knows_it(error.code, turn.version) from None


def _as_produce_knows_it(code: ErrorCode, version: int) -> BatchRefusedError:
    """Return the refusal that a producer of this version knows how to take."""
    text = None
    if code == ErrorCode.PRODUCER_FENCED:
        # Unlike PRODUCER_FENCED it leaves a way out: abort and go on (KIP-588).
        code = ErrorCode.INVALID_PRODUCER_EPOCH
    elif code == ErrorCode.TRANSACTION_ABORTABLE and version < _KNOWS_ABORTABLE:
        code = ErrorCode.INVALID_TXN_STATE
        text = "Partition was not added to the transaction"
    elif code == ErrorCode.COORDINATOR_NOT_AVAILABLE or (
        code == ErrorCode.CONCURRENT_TRANSACTIONS and version < _V2
    ):
        # An error that every producer retries, without asking for metadata.
        text = (
            "Unable to verify the partition has been added to the transaction. "
            f"Underlying error: {code.name}"
        )
        code = ErrorCode.NOT_ENOUGH_REPLICAS
    return BatchRefusedError(code, text or code.name, told=text is not None, reached_log=False)
