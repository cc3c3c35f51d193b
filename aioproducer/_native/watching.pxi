# cython: language_level=3
"""Who watches whole batches, in place of enrolling each delivery: `gather`, and futures of threads.

Deliveries that are made together mostly share a batch. So whoever holds many of them is notified
once per batch, and looks at its own deliveries then.

Invariants
* A watcher is notified once of each batch that it watches: when the batch has its outcome
  (`wake`), when it is split (`end_split`), or when its records have got their partitions
  (`moved_on`). Where records go, their watchers follow.
* A record that leaves a batch which goes on (`_move_to`) takes the batch's watchers along: they
  watch both from then on.
* Being notified runs no code of a user unless `direct` is set.
"""


cdef class BatchWatcher:
    """Watches batches for somebody. Extended by those who do."""

    cdef int _batch_over(self, RecordBatch batch, bint direct) except -1:
        """The batch has its outcome, or its records are in other batches now."""
        raise NotImplementedError

    cdef int _watch_also(self, RecordBatch batch) except -1:
        """Some record of a batch that is being watched went to `batch`; that one goes on, too."""
        raise NotImplementedError

    cdef bint _is_over(self) noexcept:
        """Whether nobody needs it any more."""
        return False


cdef int watch(RecordBatch batch, BatchWatcher watcher) except -1:
    if batch.watchers is None:
        batch.watchers = []
    batch.watchers.append(watcher)
    return 0


cdef BatchWatcher last_watcher(RecordBatch batch):
    cdef list watchers = batch.watchers
    return <BatchWatcher>watchers[len(watchers) - 1] if watchers else None


cdef int unwatch(RecordBatch batch) except -1:
    """Forget the watchers that are over, once they are many: O(1) for each."""
    batch.watchers_over += 1
    if batch.watchers is None or 2 * batch.watchers_over <= len(batch.watchers):
        return 0
    cdef BatchWatcher watcher
    left = []
    for watcher in batch.watchers:
        if not watcher._is_over():
            left.append(watcher)
    batch.watchers = left or None
    batch.watchers_over = 0
    return 0


cdef int moved_on(RecordBatch batch) except -1:
    """Notify the watchers of a batch whose records are in other batches now."""
    cdef BatchWatcher watcher
    cdef list watchers = batch.watchers
    batch.watchers = None
    if watchers is not None:
        for watcher in watchers:
            watcher._batch_over(batch, False)
    return 0


cdef int watch_also(RecordBatch before, RecordBatch batch) except -1:
    """Have the watchers of `before` watch `batch` as well."""
    cdef BatchWatcher watcher
    cdef list watchers = before.watchers
    if watchers is not None:
        for watcher in list(watchers):
            watcher._watch_also(batch)
    return 0
