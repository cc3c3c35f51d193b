# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""The native half of a connection: sends requests, and takes responses that are plain successes.

Owns the read buffer, the requests in flight, and the duplicate descriptor for direct writes.

How bytes leave
    the socket takes all       one system call writes them from the batches' memory
    the socket takes a part    the rest goes to the transport, as buffers that keep the memory
    the transport holds some   all goes to the transport, so that the order stays
    TLS, a transport in tests  all goes to the transport

How a response is taken off the read buffer
    1. The loop reads into the one buffer of the connection, and calls `buffer_updated`.
    2. If it read exactly one frame, and that is the response due, `scan` reads it in place. `scan`
       notes the outcomes and changes nothing else.
    3. If it is a plain success, the request leaves `pending`. From here on nobody reads the buffer.
    4. `complete` completes the batches and wakes tasks. A woken task may run a loop inside itself
       (nest_asyncio), which reads the next response into the same buffer: step 1 again.
    In all other cases (a part of a frame, several frames, an error) the bytes are copied, and
    `take_slowly` gets them. It offers each whole frame to `take_plain_success` before it decodes
    it. Until it returns, `has_partial_frame` sends later bytes to it, too, behind the earlier ones.

Invariants
* `scan` changes nothing unless it returns True; then `complete` cannot fail.
* No user code runs before the frame is taken off the read buffer (step 3).
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
    # The GIL is released while the system copies so many bytes or more.
    WORTH_UNLOCKING = 131072


cdef class Awaited:
    """A request that waits for its response."""

    cdef bint scan(self, const uint8_t* frame, Py_ssize_t size) except -1:
        """Whether a frame, from its correlation id on, is a plain success; if so, note offsets."""
        return False

    cdef int complete(self) except -1:
        """Complete the batches as the frame that was scanned last says."""
        return 0


cdef class CoreConnection:
    """Requests out and responses in, on one connection.

    Attributes:
        is_open: False as soon as the connection ended, from either side.
        is_leaving: It takes no new request, and ends when those in flight have their responses.
        is_writable: False while the transport's buffer is too full for another large request, and
            while the connection re-authenticates.
        throttled_until: The broker asked for a pause until then, on the loop's clock (KIP-219). It
            reads nothing before.
        last_used_at: When something was last sent or received, on the loop's clock.
        produce_version: The version of Produce to speak with this broker; -1: not known yet.
        pending: The requests without a response yet, in order.
        writer: Takes the bytes that the socket does not take at once; None before `begin`.
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
        """Send the pieces. What the socket does not take goes to the transport.

        Each piece has an owner, whose buffer keeps the memory until the transport has written it.
        A piece without owner (None) is copied instead.
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
        """Write what the socket takes; returns -1 when that was all, else the number of bytes."""
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
                # The socket is full, or broken: then the transport gets the error, too.
                return written
            written += n
            if n < size:
                return written
            at += <int>message.msg_iovlen
        return -1

    # ---- responses

    def get_buffer(self, sizehint):
        """The buffer that asyncio reads into (BufferedProtocol)."""
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
        # Until all of its frames are taken: a task that the first of them wakes may run a loop
        # that reads on, or raise KeyboardInterrupt before the others are taken.
        self.has_partial_frame = True
        self.has_partial_frame = self.take_slowly(
            PyBytes_FromStringAndSize(<const char*>data, size)
        )
        return 0

    def take_plain_success(self, frame):
        """Take the frame that is due if it is a plain success; if not, change nothing."""
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
        return request.complete()

    # ---- for the Python half

    def begin(self, writer, int fd):
        """Open the connection: write to the socket `fd`, or to `writer` if `fd` is -1.

        `fd` is a duplicate that the connection closes. A transport closes its own before it calls
        `connection_lost`, and another socket may get that descriptor in between.
        """
        self.is_open = True
        self.writer = writer
        self.fd = fd

    def end(self):
        """Take no more requests, and close the descriptor."""
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
        """The timer has fired; set it again for `next_deadline`, if that is not 0."""
        self.deadline_known = next_deadline
        if next_deadline:
            self.check_timeout_at(next_deadline)

    # Abstract: the Python half defines these.

    def take_slowly(self, data):
        """Take bytes that are not one plain success; returns whether a part of a frame is left."""
        raise NotImplementedError

    def drained(self):
        """The last request in flight has its response."""
        raise NotImplementedError

    def check_timeout_at(self, deadline):
        """Check for a request that has waited too long, at `deadline` or earlier."""
        raise NotImplementedError

    @property
    def pending_count(self):
        """The number of requests without a response yet."""
        return len(self.pending)

    def silent_for(self, double now):
        """How many seconds the broker has owed a response without sending anything."""
        return now - self.heard_at if self.pending else 0.0
