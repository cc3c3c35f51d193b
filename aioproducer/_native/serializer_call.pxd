cdef class SerializerCall:
    cdef object function
    cdef int takes
    cdef object kind           # values of exactly this type need no look at `kinds`
    cdef tuple kinds           # the types of the values it takes; None: whatever the function takes
    cdef bint refuses_bool
    cdef readonly str taker
    cdef readonly str expected

    cdef object call(self, topic, value, headers)
    cdef int refuse(self, value) except -1


cdef class TopicSerializers:
    cdef readonly str name
    cdef readonly SerializerCall key
    cdef readonly SerializerCall value
