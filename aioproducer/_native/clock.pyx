# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python, freethreading_compatible=False
"""The event loop's clock, read without a Python call where it is the system's own.

Every batch is stamped with it, so of thousands of small ones the call would be a part of the cost.
There is one clock: where somebody has replaced `time.monotonic` (freezegun does), the loop reads
what was put in its place, and so does this.
"""

cimport cython
from cpython.object cimport PyObject

import time as time_module
from sys import platform

cdef dict TIME_ATTRIBUTES = time_module.__dict__
cdef object SYSTEM_MONOTONIC = time_module.monotonic


cdef extern from "Python.h":
    PyObject* PyDict_GetItem(object mapping, object key)


cdef extern from *:
    """
    #include <time.h>
    static double aioproducer_monotonic(void) {
    #ifdef __linux__
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    #else
        return 0.0;
    #endif
    }
    """
    double aioproducer_monotonic() noexcept


@cython.final
cdef class Clock:
    """A clock in seconds.

    Args:
        time: The loop's `time`.
        is_monotonic: Whether that calls `time.monotonic`.
    """

    def __init__(self, time, bint is_monotonic):
        self.time = time
        # On Linux, `time.monotonic` is CLOCK_MONOTONIC.
        self.is_native = is_monotonic and platform == "linux"

    cpdef double now(self) except? -1:
        """What the clock says."""
        if self.is_native and (
            PyDict_GetItem(TIME_ATTRIBUTES, "monotonic") == <PyObject*>SYSTEM_MONOTONIC
        ):
            return aioproducer_monotonic()
        return self.time()
