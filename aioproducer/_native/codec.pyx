# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Encodes and decodes Kafka's primitive types as a plan says. Knows no message by name.

protocol/schema.py compiles each declared message, once per version, into a tree of `Plan`s;
`decode` and `encode_frame` walk that tree. A plan is immutable once made, so that any thread
may use it.

What comes in is hostile until read: every length and count is compared with the bytes that are
left before anything is allocated, and any fault is a `ProtocolError` with the path of the field
and its offset. What goes out is ours: a value that does not fit its field is a plain TypeError,
ValueError or OverflowError.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from aioproducer.errors import ProtocolError, UnsupportedVersionError

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

__all__ = [
    "ARRAY",
    "BOOL",
    "BYTES",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "RECORDS",
    "STRING",
    "STRUCT",
    "UINT16",
    "UINT32",
    "UNSIGNED_VARINT",
    "UUID",
    "VARINT",
    "VARLONG",
    "Plan",
    "decode",
    "encode",
    "encode_frame",
]

cdef enum Kind:
    k_bool = 1
    k_int8
    k_int16
    k_int32
    k_int64
    k_uint16
    k_uint32
    k_unsigned_varint
    k_varint
    k_varlong
    k_uuid
    k_string
    k_bytes
    k_records
    k_array
    k_struct

BOOL = <int>k_bool
INT8 = <int>k_int8
INT16 = <int>k_int16
INT32 = <int>k_int32
INT64 = <int>k_int64
UINT16 = <int>k_uint16
UINT32 = <int>k_uint32
UNSIGNED_VARINT = <int>k_unsigned_varint
VARINT = <int>k_varint
VARLONG = <int>k_varlong
UUID = <int>k_uuid
STRING = <int>k_string
BYTES = <int>k_bytes
RECORDS = <int>k_records
ARRAY = <int>k_array
STRUCT = <int>k_struct

# Structs in structs: Kafka's deepest message has six.
DEF MAX_DEPTH = 16

# Kafka keeps strings in an int16 length and applies that bound to compact ones, too.
DEF MAX_STRING = 0x7FFF

cdef tuple _EMPTY = ()


cdef class Plan:
    """How one value looks on the wire in one version.

    A struct's `fields` are `(plan, index)` in wire order; `index` is the place in `record`, or
    a negative number for a field that is read over and written as its default, the third item.
    `tagged` are `(tag, plan, index)`. Places of `record` that neither names are `absent`: they
    decode to the record's default, and `strict` ones refuse to encode anything else.
    """

    cdef readonly int kind
    cdef readonly bint nullable
    cdef readonly bint compact
    cdef readonly Plan element
    cdef readonly object record
    cdef readonly int depth
    cdef readonly Py_ssize_t min_size
    # The size of every value, or -1 where it depends on the value.
    cdef Py_ssize_t fixed_size
    cdef bint flexible
    cdef Py_ssize_t width
    cdef tuple defaults
    cdef tuple names
    cdef tuple plans
    cdef tuple skipped_defaults
    cdef Py_ssize_t* places
    cdef Py_ssize_t field_count
    cdef tuple tagged
    cdef tuple absent
    cdef tuple strict
    cdef tuple tag_places

    def __cinit__(
        self,
        int kind,
        *,
        bint nullable=False,
        bint compact=False,
        Plan element=None,
        record=None,
        fields=(),
        tagged=(),
        strict=(),
        bint flexible=False,
    ):
        if not k_bool <= kind <= k_struct:
            raise ValueError(f"no such kind of plan: {kind}")
        self.kind = kind
        self.nullable = nullable
        self.compact = compact
        self.element = element
        self.record = record
        self.flexible = flexible
        self.fixed_size = -1
        if kind == k_struct:
            self._init_struct(record, tuple(fields), tuple(tagged), tuple(strict))
        elif kind == k_array:
            self._init_array()
        else:
            self._init_primitive()

    def __dealloc__(self):
        PyMem_Free(self.places)

    cdef _init_primitive(self):
        cdef int kind = self.kind
        if kind == k_bool or kind == k_int8:
            self.fixed_size = 1
        elif kind == k_int16 or kind == k_uint16:
            self.fixed_size = 2
        elif kind == k_int32 or kind == k_uint32:
            self.fixed_size = 4
        elif kind == k_int64:
            self.fixed_size = 8
        elif kind == k_uuid:
            self.fixed_size = 16
        if self.fixed_size > 0:
            self.min_size = self.fixed_size
        elif kind == k_unsigned_varint or kind == k_varint or kind == k_varlong or self.compact:
            self.min_size = 1
        else:
            self.min_size = 2 if kind == k_string else 4

    cdef _init_array(self):
        if self.element is None:
            raise ValueError("an array needs an element")
        if self.element.min_size < 1:
            # Such a count could not be checked against the bytes that are left.
            raise ValueError("the elements of an array must take room")
        self.depth = self.element.depth
        self.min_size = 1 if self.compact else 4

    cdef _init_struct(self, record, tuple fields, tuple tagged, tuple strict):
        cdef Py_ssize_t i, size = 0
        cdef bint fixed = not self.flexible
        cdef Plan plan
        if self.nullable:
            raise ValueError("nullable structs are not supported")
        if not (isinstance(record, type) and issubclass(record, tuple)):
            raise TypeError("a struct needs a NamedTuple class")
        self.names = tuple(record._fields)
        self.width = len(self.names)
        defaults = record._field_defaults
        self.defaults = tuple([defaults[name] for name in self.names])
        self.field_count = len(fields)
        self.places = <Py_ssize_t*>PyMem_Malloc((self.field_count + 1) * sizeof(Py_ssize_t))
        if self.places == NULL:
            raise MemoryError
        used = set()
        plans = []
        skipped = []
        for i in range(self.field_count):
            plan, place, default = fields[i]
            self.places[i] = place
            if place >= 0:
                _take_place(used, place, self.width)
            plans.append(plan)
            skipped.append(default)
            size += plan.min_size
            fixed = fixed and plan.fixed_size >= 0
            self.depth = max(self.depth, plan.depth)
        self.plans = tuple(plans)
        self.skipped_defaults = tuple(skipped)
        for tag, plan, place in tagged:
            _take_place(used, place, self.width)
            self.depth = max(self.depth, plan.depth)
        if tagged and not self.flexible:
            raise ValueError("only flexible versions have tagged fields")
        self.tagged = tuple(sorted([(tag, plan, place) for tag, plan, place in tagged]))
        self.tag_places = tuple([place for tag, plan, place in self.tagged])
        self.absent = tuple([place for place in range(self.width) if place not in used])
        self.strict = tuple([place for place in self.absent if place in strict])
        self.depth += 1
        if self.depth >= MAX_DEPTH:
            raise ValueError("structs are nested too deep")
        self.min_size = size + (1 if self.flexible else 0)
        if fixed:
            self.fixed_size = size


cdef _take_place(set used, place, Py_ssize_t width):
    if place in used or not 0 <= place < width:
        raise ValueError(f"field {place} is declared twice or not in the record")
    used.add(place)


# Decoding.

cdef struct Reader:
    const uint8_t* data
    Py_ssize_t pos
    Py_ssize_t end
    # The struct plans being decoded, outermost first, and the field each is at: only for errors.
    # The pointers are borrowed; the outermost plan is alive and owns the others.
    int depth
    PyObject* plans[MAX_DEPTH]
    Py_ssize_t fields[MAX_DEPTH]


cdef int _fail(Reader* r, str what) except -1:
    cdef Plan plan
    cdef Py_ssize_t i
    path = ""
    for i in range(r.depth):
        plan = <Plan>r.plans[i]
        if i == 0:
            path = plan.record.__name__
        if 0 <= r.fields[i] < plan.width:
            path += "." + plan.names[r.fields[i]]
    raise ProtocolError(
        f"The broker's answer cannot be decoded: {what} at byte {r.pos}"
        + (f", in {path}" if path else "")
    )


cdef int _fail_short(Reader* r, Py_ssize_t needed) except -1:
    return _fail(r, f"{needed} bytes needed but {r.end - r.pos} left")


cdef inline int _need(Reader* r, Py_ssize_t size) except -1:
    if size > r.end - r.pos:
        return _fail_short(r, size)
    return 0


cdef inline uint16_t _get16(const uint8_t* p) noexcept nogil:
    return <uint16_t>((<uint16_t>p[0] << 8) | p[1])


cdef inline uint32_t _get32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t _get64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>_get32(p) << 32) | _get32(p + 4)


cdef uint64_t _read_varint(Reader* r, int bits) except? 0xDEAD:
    """Read an unsigned varint of at most `bits` (32 or 64) bits."""
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint8_t byte
    while True:
        _need(r, 1)
        byte = r.data[r.pos]
        # The last group has room for 4 (of 32) or 1 (of 64) bits, and nothing follows it.
        if shift + 7 > bits and byte >> (bits - shift):
            _fail(r, f"a varint longer than {bits} bits")
        value |= <uint64_t>(byte & 0x7F) << shift
        r.pos += 1
        if not byte & 0x80:
            return value
        shift += 7


cdef Py_ssize_t _read_length(Reader* r, Plan plan) except -2:
    """Read a length or count; -1 is null. Not yet compared with the bytes that are left."""
    cdef int64_t length
    if plan.compact:
        length = <int64_t>_read_varint(r, 32) - 1
    elif plan.kind == k_string:
        _need(r, 2)
        length = <int16_t>_get16(r.data + r.pos)
        r.pos += 2
    else:
        _need(r, 4)
        length = <int32_t>_get32(r.data + r.pos)
        r.pos += 4
    if length < 0:
        if length < -1:
            _fail(r, f"the length {length}")
        if not plan.nullable:
            _fail(r, "a null that is not allowed")
        return -1
    if plan.kind == k_array:
        # By division: no product to overflow.
        if length > (r.end - r.pos) // plan.element.min_size:
            _fail(r, f"{length} elements announced but {r.end - r.pos} bytes left")
    elif length > r.end - r.pos:
        _fail_short(r, length)
    if plan.kind == k_string and length > MAX_STRING:
        _fail(r, f"a string of {length} bytes")
    return length


cdef object _read(Reader* r, Plan plan):
    cdef int kind = plan.kind
    cdef const uint8_t* p
    cdef uint64_t number
    if kind == k_int32:
        _need(r, 4)
        p = r.data + r.pos
        r.pos += 4
        return <int32_t>_get32(p)
    if kind == k_int16:
        _need(r, 2)
        p = r.data + r.pos
        r.pos += 2
        return <int16_t>_get16(p)
    if kind == k_struct:
        return _read_struct(r, plan)
    if kind == k_array:
        return _read_array(r, plan)
    if kind == k_string or kind == k_bytes or kind == k_records:
        return _read_block(r, plan)
    if plan.fixed_size > 0:
        _need(r, plan.fixed_size)
        p = r.data + r.pos
        r.pos += plan.fixed_size
        if kind == k_int64:
            return <int64_t>_get64(p)
        if kind == k_bool:
            return p[0] != 0
        if kind == k_int8:
            return <int>(<signed char>p[0])
        if kind == k_uint16:
            return _get16(p)
        if kind == k_uint32:
            return _get32(p)
        return PyBytes_FromStringAndSize(<const char*>p, 16)
    if kind == k_unsigned_varint:
        return _read_varint(r, 32)
    number = _read_varint(r, 32 if kind == k_varint else 64)
    return <int64_t>((number >> 1) ^ (0 - (number & 1)))


cdef object _read_block(Reader* r, Plan plan):
    """Read a string, bytes or records; records stay where they are, see `decode`."""
    cdef Py_ssize_t length = _read_length(r, plan)
    if length < 0:
        return None
    cdef const char* start = <const char*>r.data + r.pos
    r.pos += length
    if plan.kind == k_string:
        try:
            return PyUnicode_DecodeUTF8(start, length, NULL)
        except UnicodeDecodeError:
            r.pos -= length
        _fail(r, "text that is not UTF-8")
    data = PyBytes_FromStringAndSize(start, length)
    return (data,) if plan.kind == k_records else data


cdef tuple _read_array(Reader* r, Plan plan):
    cdef Py_ssize_t i, count = _read_length(r, plan)
    if count < 0:
        return None
    if count == 0:
        return _EMPTY
    cdef tuple items = PyTuple_New(count)
    cdef Plan element = plan.element
    cdef object item
    for i in range(count):
        item = _read(r, element)
        Py_INCREF(item)
        PyTuple_SET_ITEM(items, i, item)
    return items


cdef object _read_struct(Reader* r, Plan plan):
    cdef tuple values = PyTuple_New(plan.width)
    cdef int level = r.depth
    cdef Py_ssize_t i, place
    cdef object value
    cdef Plan field
    for i in range(plan.width):
        value = <object>PyTuple_GET_ITEM(plan.defaults, i)
        Py_INCREF(value)
        PyTuple_SET_ITEM(values, i, value)
    r.plans[level] = <PyObject*>plan
    r.depth = level + 1
    for i in range(plan.field_count):
        place = plan.places[i]
        r.fields[level] = place
        field = <Plan>PyTuple_GET_ITEM(plan.plans, i)
        if place < 0:
            _skip(r, field)
        else:
            _put(values, place, _read(r, field))
    r.fields[level] = -1
    if plan.flexible:
        _read_tagged(r, plan, values, level)
    r.depth = level
    return _as_record(plan.record, values)


cdef inline void _put(tuple values, Py_ssize_t place, object value):
    # `values` is ours alone: nobody has seen it yet, so that it may still change.
    cdef PyObject* old = <PyObject*>PyTuple_GET_ITEM(values, place)
    Py_INCREF(value)
    PyTuple_SET_ITEM(values, place, value)
    Py_DECREF_raw(old)


cdef extern from *:
    """
    static inline void Py_DECREF_raw(PyObject *o) { Py_DECREF(o); }
    """
    void Py_DECREF_raw(PyObject* o)


cdef inline object _as_record(object record, tuple values):
    # What `tuple.__new__(record, values)` does, without looking it up.
    return (<PyTypeObject*>tuple).tp_new(<PyTypeObject*>record, (values,), NULL)
