cdef class Clock:
    cdef object time
    cdef bint is_native

    cpdef double now(self) except? -1
