# cython: language_level=3
"""What the awaitables that run once per record share, and Cython has no syntax for.

The send slot (`am_send`), by which `await` raises no StopIteration; `throw`; and classes whose
instances only their own module makes.
"""

from cpython.object cimport PyObject

from functools import partial


cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    ctypedef struct PyAsyncMethods:
        void* am_send

    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
        PyObject* tp_dict
        object (*tp_alloc)(PyTypeObject* cls, Py_ssize_t items)
        object (*tp_new)(PyTypeObject* cls, object args, PyObject* kwargs)

    void PyType_Modified(PyTypeObject* type)


cdef void use_send_slot(type cls, void* function):
    (<PyTypeObject*>cls).tp_as_async.am_send = function
    PyType_Modified(<PyTypeObject*>cls)


def refuse_instance(message, *args, **kwargs):
    raise TypeError(message)


cdef int refuse_new(type cls, str message) except -1:
    """Have `cls.__new__(cls)` raise: the methods of such an instance would read through NULL.

    In the module itself, `Class.__new__(Class)` still works: Cython calls the C function.
    """
    cdef dict attributes = <dict>(<PyTypeObject*>cls).tp_dict
    attributes["__new__"] = staticmethod(partial(refuse_instance, message))
    PyType_Modified(<PyTypeObject*>cls)
    return 0


cdef int raise_thrown(kind, value) except -1:
    """Implement `throw(kind, value)` for an awaitable that has nothing to clean up."""
    if not isinstance(kind, type):
        raise kind
    if isinstance(value, BaseException):
        raise value
    raise kind() if value is None else kind(value)
