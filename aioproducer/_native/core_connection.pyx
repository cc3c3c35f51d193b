# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""The native half of a connection: what is sent and what comes when all goes well.

Extended by transport.py, which opens and ends connections, and reads every response that is not
taken here.

How bytes leave
    the socket takes them      written at once from where they lie, by one system call
    it takes a part of them    the rest goes to the transport, as buffers that keep the memory
    the transport holds some   all goes to the transport, so that the order stays
    TLS, a transport in tests  all goes to the transport

How a response comes
    one whole frame, the one   scanned where it lies; if it is a plain success, settled, without
    that is due                a Python object for it
    anything else              `FrameDecoder`, and each whole frame then has the same chance

Invariants
* `scan` changes nothing unless it returns True; then `settle` cannot fail.
* A frame is taken off the read buffer before any user code runs: a loop that is run inside of a
  woken task (nest_asyncio) reads into the same buffer.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EINTR, errno
from libc.stdint cimport int32_t, uint8_t, uint32_t

from aioproducer._native.wire cimport get_uint32

from collections import deque

cdef extern from "sys/socket.h" nogil:
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr* message, int flags)

cdef extern from "unistd.h" nogil:
    int close_fd "close"(int fd)

cdef extern from *:
    """
    #include <string.h>
    #include <sys/socket.h>
    #ifdef MSG_NOSIGNAL
    #define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
    #else
    /* macOS: asyncio and Python ignore SIGPIPE anyway. */
    #define SEND_FLAGS MSG_DONTWAIT
    #endif
    """
    int SEND_FLAGS
    void* memset(void* at, int value, size_t size) nogil

cdef enum:
    MOST_PIECES = 1024          # IOV_MAX: how many buffers the system takes in one call
    READ_AT_ONCE = 65536
    CORRELATION_IDS = 0x7FFFFFFF
    # Bytes from which on the interpreter's lock is let go while the system copies them.
    WORTH_UNLOCKING = 131072


cdef class Awaited:
    """A request that waits for its response."""

    cdef bint scan(self, const uint8_t* frame, Py_ssize_t size) except -1:
        """Whether a frame, from its correlation id on, is a plain success; it is noted then."""
        return False

    cdef int settle(self) except -1:
        """Do what the frame that was scanned last brings."""
        return 0


cdef class CoreConnection:
    """Requests out and responses in, on one connection.

    Attributes:
        is_open: False as soon as the connection ended, from either side.
        is_leaving: No request is to be begun on it; those in flight are answered, then it ends.
        is_writable: False while the transport's buffer is too full for another large request.
        throttled_until: The broker asked for a pause until then, on the loop's clock (KIP-219). It
            reads nothing before, whatever is sent.
        last_used_at: When something was last sent or received, on the loop's clock.
        produce_version: The version of Produce to speak with this broker; -1: not known yet.
        pending: The requests sent and not answered, in order.
        writer: Takes the bytes that do not go to the socket at once; None before the beginning.
    """

    def __cinit__(self, *_, **__):
        self.fd = -1

    def __init__(self, time):
        self.time = time
        self.is_writable = True
        self.last_used_at = time()
        self.produce_version = -1
        self.pending = deque()

    # ---- requests

    cdef int32_t next_correlation_id(self) noexcept:
        self.correlation_id = (self.correlation_id + 1) & CORRELATION_IDS
        return self.correlation_id

    cpdef expect(self, object request, double deadline, double now):
        """Wait for the response to a request that is sent now."""
        self.last_used_at = now
        if not self.pending:
            self.heard_at = now
        self.pending.append(request)
        if self.deadline_known == 0 or deadline < self.deadline_known:
            self.deadline_known = deadline
            self.check_timeout_at(deadline)

    cdef int send_pieces(self, iovec* pieces, int count, list owners) except -1:
        """Send what the pieces point to; of what is left over, `owners` keep the memory.

        An owner of None says that the piece is copied if it is left over.
        """
        cdef Py_ssize_t written = 0
        cdef Py_ssize_t size
        cdef int position
        cdef list left
        if self.has_backlog and self.fd >= 0:
            self.has_backlog = self.writer.get_write_buffer_size() > 0
        if self.fd >= 0 and not self.has_backlog:
            written = self._write_now(pieces, count)
            if written < 0:
                return 0
        left = []
        for position in range(count):
            size = pieces[position].iov_len
            if written >= size:
                written -= size
                continue
            owner = owners[position]
            if owner is None:
                left.append(PyBytes_FromStringAndSize(
                    <const char*>pieces[position].iov_base + written, size - written
                ))
            else:
                chunk = memoryview(owner)
                left.append(chunk[written:] if written else chunk)
            written = 0
        self.write(left)
        return 0

    cdef Py_ssize_t _write_now(self, iovec* pieces, int count) except -2:
        """Write to the socket what it takes; -1 when that was all, else how many bytes."""
        cdef Py_ssize_t written = 0
        cdef Py_ssize_t size
        cdef Py_ssize_t n
        cdef int at = 0
        cdef int position
        cdef msghdr message
        memset(&message, 0, sizeof(message))
        while at < count:
            message.msg_iov = pieces + at
            message.msg_iovlen = min(count - at, <int>MOST_PIECES)
            size = 0
            for position in range(<int>message.msg_iovlen):
                size += pieces[at + position].iov_len
            if size < WORTH_UNLOCKING:
                n = sendmsg(self.fd, &message, SEND_FLAGS)
            else:
                with nogil:
                    n = sendmsg(self.fd, &message, SEND_FLAGS)
            if n < 0:
                if errno == EINTR:
                    continue
                # Full; or broken, which the transport will find out, too.
                return written
            written += n
            if n < size:
                return written
            at += <int>message.msg_iovlen
        return -1

    # ---- responses

    def get_buffer(self, sizehint):
        """Where asyncio may put what it reads (BufferedProtocol)."""
        if self.memory is None:
            self.memory = bytearray(READ_AT_ONCE)
            self.view = memoryview(self.memory)
        return self.view

    def buffer_updated(self, Py_ssize_t nbytes):
        """Take what asyncio has read (BufferedProtocol)."""
        self._take(<const uint8_t*><char*>self.memory, nbytes)

    def data_received(self, data):
        """Take what the broker sent."""
        if type(data) is not bytes:
            data = bytes(data)
        self._take(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef int _take(self, const uint8_t* data, Py_ssize_t size) except -1:
        self.last_used_at = self.heard_at = self.time()
        if not self.has_partial_frame and size >= 8 and (
            <Py_ssize_t>get_uint32(data) + 4 == size
        ) and self.pending:
            request = self.pending[0]
            if isinstance(request, Awaited) and (
                get_uint32(data + 4) == <uint32_t>(<Awaited>request).correlation_id
            ) and (<Awaited>request).scan(data + 4, size - 4):
                try:
                    self._complete_first(<Awaited>request)
                finally:
                    if not self.pending:
                        self.drained()
                return 0
        # Until all of its frames are taken: one of them may end the program.
        self.has_partial_frame = True
        self.has_partial_frame = self.take_slowly(
            PyBytes_FromStringAndSize(<const char*>data, size)
        )
        return 0

    def take_plain_success(self, frame):
        """Take the frame that is due if it is a plain success; False changes nothing."""
        cdef const uint8_t[::1] view = frame
        request = self.pending[0]
        if not isinstance(request, Awaited) or not (<Awaited>request).scan(
            &view[0], view.shape[0]
        ):
            return False
        self._complete_first(<Awaited>request)
        return True

    cdef int _complete_first(self, Awaited request) except -1:
        """Take the plain success that was scanned for the request that is due."""
        self.pending.popleft()
        self.response_id = request.correlation_id
        return request.settle()

    # ---- for transport.py

    def begin(self, writer, int fd):
        """Be open: write by `writer`, or past it to the socket `fd` where that is not -1.

        `fd` is a duplicate that the connection closes: a transport may close its own, for another
        socket to get the number, before it tells that the connection is lost.
        """
        self.is_open = True
        self.writer = writer
        self.fd = fd

    def end(self):
        """Begin no more requests, and keep off the socket."""
        self.is_open = False
        if self.fd >= 0:
            close_fd(self.fd)
            self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            close_fd(self.fd)

    def write(self, chunks):
        """Hand chunks to the transport."""
        self.has_backlog = True
        self.writer.writelines(chunks)

    def take_correlation_id(self):
        """The id of the next request."""
        return self.next_correlation_id()

    def timeout_checked(self, double next_deadline):
        """The timer went off; it is set again for `next_deadline`, if that is not 0."""
        self.deadline_known = next_deadline
        if next_deadline:
            self.check_timeout_at(next_deadline)

    # What transport.py has to do.

    def take_slowly(self, data):
        """Take bytes that are no single plain success; whether a frame waits for its rest."""
        raise NotImplementedError

    def drained(self):
        """No request is without a response any more."""
        raise NotImplementedError

    def check_timeout_at(self, deadline):
        """Look at `deadline`, or earlier, which request has waited too long."""
        raise NotImplementedError

    @property
    def pending_count(self):
        """Requests sent and not answered."""
        return len(self.pending)

    def silent_for(self, double now):
        """How many seconds the broker has owed a response without sending anything."""
        return now - self.heard_at if self.pending else 0.0
