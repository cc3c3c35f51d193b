# cython: language_level=3
"""The send slot (`am_send`) of an awaitable: `await` without raising a StopIteration.

Included by the modules whose awaitables run once per record; Cython has no syntax for the slot.
"""

from cpython.object cimport PyObject


cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    ctypedef struct PyAsyncMethods:
        void* am_send

    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
        object (*tp_alloc)(PyTypeObject* cls, Py_ssize_t items)

    void PyType_Modified(PyTypeObject* type)


cdef void use_send_slot(type cls, void* function):
    (<PyTypeObject*>cls).tp_as_async.am_send = function
    PyType_Modified(<PyTypeObject*>cls)


cdef int raise_thrown(kind, value) except -1:
    """What `throw(kind, value)` of an awaitable that has nothing to clean up does."""
    if not isinstance(kind, type):
        raise kind
    if isinstance(value, BaseException):
        raise value
    raise kind() if value is None else kind(value)
