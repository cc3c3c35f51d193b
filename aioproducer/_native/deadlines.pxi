# cython: language_level=3
"""Until when records must have been sent, and until when callers wait for their outcome.

Part of the module record_batch: it knows deliveries and waits. `send` and its like add an entry for
a `deadline=` or a `timeout=`; withdrawals.py takes out what is due. When all goes well nothing is
due: the records are delivered long before, and their entries dropped without a call of Python.

    entry for        when it is due
    a Delivery       its record is withdrawn if it was not sent (`deadline=`)
    a DeliveryWait   the same where it `withdraws`; else, and if the record was sent, the wait ends

Invariants
* There are at most twice as many entries as deliveries that are pending, and a thousand more.
* The timer is set for the first entry whose record is pending, or for an earlier one.
"""

from heapq import heapify, heappop, heappush

cdef enum:
    FEW_ENTRIES = 1000

cdef double NEVER = float("inf")


@cython.final
cdef class DeliveryDeadlines:
    """A heap of what is due at some time of the loop's clock."""

    def __init__(self):
        self.heap = []   # (at, a count that makes each entry unique, span, target)
        self.armed_at = NEVER
        self.crowded_from = FEW_ENTRIES

    @property
    def entry_count(self):
        """How many entries there are, those of records that are over included."""
        return len(self.heap)

    def serve(self, set_timer):
        """Call `set_timer(at)` when there is something to look for from `at` on."""
        self.set_timer = set_timer

    cdef int add(self, double at, double span, object target) except -1:
        """Add a delivery or a wait, due at `at`, `span` seconds after the call."""
        if len(self.heap) >= self.crowded_from:
            self._drop_over()
        self.count += 1
        heappush(self.heap, (at, self.count, span, target))
        if at < self.armed_at:
            self.armed_at = at
            self.set_timer(at)
        return 0

    cdef int _drop_over(self) except -1:
        self.heap = [entry for entry in self.heap if not is_over((<tuple>entry)[3])]
        heapify(self.heap)
        self.crowded_from = 2 * len(self.heap) + FEW_ENTRIES

    def pop_due(self, double now):
        """Take out what is due: a list of (delivery, wait or None, withdraws, span)."""
        cdef DeliveryWait wait
        self.armed_at = NEVER
        due = []
        while self.heap and <double>(<tuple>self.heap[0])[0] <= now:
            _, _, span, target = heappop(self.heap)
            if is_over(target):
                continue
            if type(target) is DeliveryWait:
                wait = <DeliveryWait>target
                due.append((wait.delivery, wait, wait.withdraws, span))
            else:
                due.append((target, None, True, span))
        return due

    def set_timer_again(self, double earliest):
        """Set the timer, for `earliest` at the earliest, if anything is left."""
        while self.heap and is_over((<tuple>self.heap[0])[3]):
            heappop(self.heap)
        if self.heap:
            self.armed_at = max(<double>(<tuple>self.heap[0])[0], earliest)
            self.set_timer(self.armed_at)


cdef bint is_over(object target) noexcept:
    cdef Delivery delivery = (
        (<DeliveryWait>target).delivery if type(target) is DeliveryWait else <Delivery>target
    )
    return delivery._outcome() != PENDING
