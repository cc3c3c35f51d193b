# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Encodes and decodes Kafka's primitive types by plans. Knows no message by name.

protocol/schema.py compiles each declared message, once per version, into a tree of `Plan`s;
`decode` and `encode_frame` walk that tree.

Invariants
* A plan never changes, so any thread may use it.
* Received bytes are not trusted: every length and count is compared with the bytes that are left
  before anything is allocated, and any fault is a `ProtocolError` with the field's path and offset.
* Values to encode are our own: one that does not fit its field is a TypeError, ValueError or
  OverflowError.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from aioproducer._native.wire cimport get_uint16, get_uint32, get_uint64

from aioproducer.errors import ProtocolError, UnsupportedVersionError

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

# Kafka gives strings an int16 length, and bounds compact strings alike.
DEF MAX_STRING = 0x7FFF

cdef tuple _EMPTY = ()


cdef class Plan:
    """The form of one value on the wire in one version.

    A struct's `fields` are `(plan, place, default)` in wire order; `place` is the index in
    `record`, or negative for a field that is skipped, and written as `default`. `tagged` are
    `(tag, plan, place)`. Places of `record` that neither names decode to the record's default;
    `strict` ones refuse to encode anything else.
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
    # The place of each field in `plans`, then the places that get the record's default.
    cdef Py_ssize_t* places
    cdef Py_ssize_t field_count
    cdef Py_ssize_t preset_count
    cdef tuple tagged
    cdef tuple strict

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
            # A count of empty elements cannot be checked against the bytes that are left.
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
        self.places = <Py_ssize_t*>PyMem_Malloc(
            (self.field_count + self.width + 1) * sizeof(Py_ssize_t)
        )
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
        for place in range(self.width):
            if place not in used:
                self.places[self.field_count + self.preset_count] = place
                self.preset_count += 1
        for _tag, plan, place in tagged:
            _take_place(used, place, self.width)
            self.depth = max(self.depth, plan.depth)
        if tagged and not self.flexible:
            raise ValueError("only flexible versions have tagged fields")
        self.tagged = tuple(sorted(tagged, key=_tag_of))
        self.strict = tuple([place for place in strict if place not in used])
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


def _tag_of(tagged):
    return tagged[0]


# Decoding.

cdef struct Reader:
    const uint8_t* data
    Py_ssize_t pos
    Py_ssize_t end
    # For errors only: the struct plans being decoded, outermost first, and the current field of
    # each. The pointers are borrowed: the caller holds the outermost plan, which owns the others.
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


cdef int _fail_short(Reader* r, int64_t needed) except -1:
    return _fail(r, f"{needed} bytes needed but {r.end - r.pos} left")


cdef inline int _need(Reader* r, int64_t size) except -1:
    if size > r.end - r.pos:
        return _fail_short(r, size)
    return 0


cdef uint64_t _read_varint(Reader* r, int bits) except? 0xDEAD:
    """Read an unsigned varint of at most `bits` (32 or 64) bits."""
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint8_t byte
    while True:
        _need(r, 1)
        byte = r.data[r.pos]
        # The last byte holds 4 (of 32) or 1 (of 64) bits, and no byte follows it.
        if shift + 7 > bits and byte >> (bits - shift):
            _fail(r, f"a varint longer than {bits} bits")
        value |= <uint64_t>(byte & 0x7F) << shift
        r.pos += 1
        if not byte & 0x80:
            return value
        shift += 7


cdef Py_ssize_t _read_length(Reader* r, Plan plan) except -2:
    """Read a length or count, and check it against the bytes that are left; -1 is null."""
    cdef int64_t length
    if plan.compact:
        length = <int64_t>_read_varint(r, 32) - 1
    elif plan.kind == k_string:
        _need(r, 2)
        length = <int16_t>get_uint16(r.data + r.pos)
        r.pos += 2
    else:
        _need(r, 4)
        length = <int32_t>get_uint32(r.data + r.pos)
        r.pos += 4
    if length < 0:
        if length < -1:
            _fail(r, f"the length {length}")
        if not plan.nullable:
            _fail(r, "a null that is not allowed")
        return -1
    if plan.kind == k_array:
        # By division: a product could overflow.
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
        return <int32_t>get_uint32(p)
    if kind == k_int16:
        _need(r, 2)
        p = r.data + r.pos
        r.pos += 2
        return <int16_t>get_uint16(p)
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
            return <int64_t>get_uint64(p)
        if kind == k_bool:
            return p[0] != 0
        if kind == k_int8:
            return <int>(<signed char>p[0])
        if kind == k_uint16:
            return get_uint16(p)
        if kind == k_uint32:
            return get_uint32(p)
        return PyBytes_FromStringAndSize(<const char*>p, 16)
    if kind == k_unsigned_varint:
        return _read_varint(r, 32)
    number = _read_varint(r, 32 if kind == k_varint else 64)
    return <int64_t>((number >> 1) ^ (0 - (number & 1)))


cdef object _read_block(Reader* r, Plan plan):
    """Read a string, bytes or records; records come as one chunk."""
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
    for i in range(plan.field_count, plan.field_count + plan.preset_count):
        place = plan.places[i]
        value = <object>PyTuple_GET_ITEM(plan.defaults, place)
        Py_INCREF(value)
        PyTuple_SET_ITEM(values, place, value)
    r.plans[level] = <PyObject*>plan
    r.depth = level + 1
    for i in range(plan.field_count):
        place = plan.places[i]
        r.fields[level] = place
        if place < 0:
            _skip(r, <Plan>PyTuple_GET_ITEM(plan.plans, i))
        else:
            value = _read(r, <Plan>PyTuple_GET_ITEM(plan.plans, i))
            Py_INCREF(value)
            PyTuple_SET_ITEM(values, place, value)
    r.fields[level] = -1
    if plan.flexible:
        _read_tagged(r, plan, values)
    r.depth = level
    # `tuple.__new__(record, values)`, without looking it up.
    cdef tuple arguments = (values,)
    return (<PyTypeObject*>tuple).tp_new(plan.record, <PyObject*>arguments, NULL)


cdef int _read_tagged(Reader* r, Plan plan, tuple values) except -1:
    """Read the tagged fields that the plan has, and skip the others."""
    cdef Py_ssize_t place, outer_end
    cdef int64_t size
    cdef uint64_t count, tag
    cdef object value
    cdef Plan field
    count = _read_varint(r, 32)
    if count > <uint64_t>(r.end - r.pos) // 2:
        _fail(r, f"{count} tagged fields announced but {r.end - r.pos} bytes left")
    while count:
        count -= 1
        tag = _read_varint(r, 32)
        size = <int64_t>_read_varint(r, 32)
        _need(r, size)
        for known, field, place in plan.tagged:
            if <uint64_t>known != tag:
                continue
            r.fields[r.depth - 1] = place
            outer_end = r.end
            r.end = r.pos + <Py_ssize_t>size
            value = _read(r, field)
            if r.pos != r.end:
                _fail(r, f"a tagged field with {r.end - r.pos} bytes too many")
            r.end = outer_end
            _replace(values, place, value)
            r.fields[r.depth - 1] = -1
            break
        else:
            r.pos += <Py_ssize_t>size
    return 0


cdef inline int _replace(tuple values, Py_ssize_t place, object value) except -1:
    # Nobody else has a reference to `values` yet, so it may still change.
    cdef PyObject* old = <PyObject*>PyTuple_GET_ITEM(values, place)
    Py_INCREF(value)
    PyTuple_SET_ITEM(values, place, value)
    Py_XDECREF(old)
    return 0


cdef int _skip(Reader* r, Plan plan) except -1:
    """Skip a value without making an object; checks only what is needed to find its end."""
    cdef Py_ssize_t i
    cdef int64_t length
    cdef uint64_t count
    if plan.fixed_size >= 0:
        _need(r, plan.fixed_size)
        r.pos += plan.fixed_size
        return 0
    if plan.kind == k_struct:
        for i in range(plan.field_count):
            _skip(r, <Plan>PyTuple_GET_ITEM(plan.plans, i))
        if plan.flexible:
            count = _read_varint(r, 32)
            while count:
                count -= 1
                _read_varint(r, 32)
                length = <int64_t>_read_varint(r, 32)
                _need(r, length)
                r.pos += <Py_ssize_t>length
        return 0
    if plan.kind == k_unsigned_varint or plan.kind == k_varint:
        _read_varint(r, 32)
        return 0
    if plan.kind == k_varlong:
        _read_varint(r, 64)
        return 0
    length = _read_length(r, plan)
    if length <= 0:
        return 0
    if plan.kind != k_array:
        r.pos += <Py_ssize_t>length
    elif plan.element.fixed_size >= 0:
        # `_read_length` has checked that all of them are there.
        r.pos += <Py_ssize_t>length * plan.element.fixed_size
    else:
        while length:
            length -= 1
            _skip(r, plan.element)
    return 0


def decode(data, Plan plan not None, Py_ssize_t offset=0):
    """Return the value that starts at `offset`, and the offset behind it."""
    cdef Reader reader
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if not 0 <= offset <= view.len:
            raise ValueError("the offset is outside the data")
        reader.data = <const uint8_t*>view.buf
        reader.pos = offset
        reader.end = view.len
        reader.depth = 0
        value = _read(&reader, plan)
        return value, reader.pos
    finally:
        PyBuffer_Release(&view)


# Encoding.

cdef class _Writer:
    """The bytes written so far, and the uncopied buffers that go between them."""

    cdef uint8_t* data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef list chunks
    cdef list cuts
    cdef int64_t chunk_bytes

    def __cinit__(self):
        self.capacity = 512
        self.data = <uint8_t*>PyMem_Malloc(self.capacity)
        if self.data == NULL:
            raise MemoryError
        self.chunks = []
        self.cuts = []

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef uint8_t* reserve(self, Py_ssize_t size) except NULL:
        """Return where the next `size` bytes go; they count as written."""
        cdef uint8_t* data
        cdef Py_ssize_t capacity
        if size > self.capacity - self.size:
            capacity = max(self.capacity * 2, self.size + size)
            data = <uint8_t*>PyMem_Realloc(self.data, capacity)
            if data == NULL:
                raise MemoryError
            self.data = data
            self.capacity = capacity
        data = self.data + self.size
        self.size += size
        return data

    cdef int write(self, const char* data, Py_ssize_t size) except -1:
        memcpy(self.reserve(size), data, size)
        return 0

    cdef int write_varint(self, uint64_t value) except -1:
        while value > 0x7F:
            self.reserve(1)[0] = <uint8_t>(value & 0x7F | 0x80)
            value >>= 7
        self.reserve(1)[0] = <uint8_t>value
        return 0

    cdef int write_chunk(self, chunk) except -1:
        self.cuts.append(self.size)
        self.chunks.append(chunk)
        self.chunk_bytes += len(chunk)
        return 0

    cdef list finish(self):
        cdef Py_ssize_t cut, start = 0
        cdef list parts = []
        for cut, chunk in zip(self.cuts, self.chunks):
            if cut > start:
                parts.append(PyBytes_FromStringAndSize(<char*>self.data + start, cut - start))
                start = cut
            parts.append(chunk)
        if self.size > start:
            parts.append(PyBytes_FromStringAndSize(<char*>self.data + start, self.size - start))
        return parts


cdef inline void _put16(uint8_t* p, uint16_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 8)
    p[1] = <uint8_t>value


cdef inline void _put32(uint8_t* p, uint32_t value) noexcept nogil:
    _put16(p, <uint16_t>(value >> 16))
    _put16(p + 2, <uint16_t>value)


cdef inline void _put64(uint8_t* p, uint64_t value) noexcept nogil:
    _put32(p, <uint32_t>(value >> 32))
    _put32(p + 4, <uint32_t>value)


cdef int _write(_Writer w, Plan plan, object value) except -1:
    cdef int kind = plan.kind
    if kind == k_struct:
        return _write_struct(w, plan, value)
    if kind == k_array:
        return _write_array(w, plan, value)
    if kind == k_string or kind == k_bytes:
        return _write_block(w, plan, value)
    if kind == k_records:
        return _write_records(w, plan, value)
    if kind == k_uuid:
        if PyBytes_GET_SIZE(<bytes?>value) != 16:
            raise ValueError("a UUID has 16 bytes")
        return w.write(PyBytes_AS_STRING(value), 16)
    if kind == k_bool:
        w.reserve(1)[0] = 1 if value else 0
        return 0
    return _write_number(w, kind, value)


cdef int _write_number(_Writer w, int kind, object value) except -1:
    cdef int64_t number = value
    cdef int bits = 64
    cdef bint unsigned = kind == k_uint16 or kind == k_uint32 or kind == k_unsigned_varint
    if kind == k_int8:
        bits = 8
    elif kind == k_int16 or kind == k_uint16:
        bits = 16
    elif kind != k_int64 and kind != k_varlong:
        bits = 32
    if unsigned:
        if number < 0 or number >> bits:
            raise OverflowError(f"{number} does not fit in {bits} bits without sign")
    elif bits < 64 and not -(<int64_t>1 << (bits - 1)) <= number < <int64_t>1 << (bits - 1):
        raise OverflowError(f"{number} does not fit in {bits} bits")
    if kind == k_int8:
        w.reserve(1)[0] = <uint8_t>number
    elif kind == k_int16 or kind == k_uint16:
        _put16(w.reserve(2), <uint16_t>number)
    elif kind == k_int32 or kind == k_uint32:
        _put32(w.reserve(4), <uint32_t>number)
    elif kind == k_int64:
        _put64(w.reserve(8), <uint64_t>number)
    elif kind == k_unsigned_varint:
        w.write_varint(<uint64_t>number)
    else:
        w.write_varint((<uint64_t>number << 1) ^ <uint64_t>(number >> 63))
    return 0


cdef int _write_length(_Writer w, Plan plan, int64_t length) except -1:
    """Write a length or count; -1 is null."""
    if length < 0 and not plan.nullable:
        raise TypeError("None is not allowed here")
    if length > 0x7FFFFFFF:
        raise OverflowError(f"the length {length} does not fit in 32 bits")
    if plan.compact:
        w.write_varint(<uint64_t>(length + 1))
    elif plan.kind == k_string:
        _put16(w.reserve(2), <uint16_t>length)
    else:
        _put32(w.reserve(4), <uint32_t>length)
    return 0


cdef int _write_block(_Writer w, Plan plan, object value) except -1:
    cdef Py_ssize_t size = 0
    cdef const char* data
    if value is None:
        return _write_length(w, plan, -1)
    if plan.kind == k_string:
        data = PyUnicode_AsUTF8AndSize(<str?>value, &size)
        if size > MAX_STRING:
            raise ValueError(f"a string has at most {MAX_STRING} bytes, not {size}")
    else:
        size = PyBytes_GET_SIZE(<bytes?>value)
        data = PyBytes_AS_STRING(value)
    _write_length(w, plan, size)
    return w.write(data, size)


cdef int _write_records(_Writer w, Plan plan, object value) except -1:
    cdef list chunks
    cdef int64_t total = 0
    if value is None:
        return _write_length(w, plan, -1)
    chunks = []
    for chunk in value:
        if type(chunk) is not bytes:
            chunk = PyMemoryView_FromObject(chunk).cast("B")
        if len(chunk):
            total += len(chunk)
            chunks.append(chunk)
    _write_length(w, plan, total)
    for chunk in chunks:
        w.write_chunk(chunk)
    return 0


cdef int _write_array(_Writer w, Plan plan, object value) except -1:
    if value is None:
        return _write_length(w, plan, -1)
    _write_length(w, plan, len(value))
    for item in value:
        _write(w, plan.element, item)
    return 0


cdef int _write_struct(_Writer w, Plan plan, object value) except -1:
    cdef Py_ssize_t i, place
    cdef tuple values
    if not isinstance(value, plan.record):
        raise TypeError(f"{plan.record.__name__} expected, not {type(value).__name__}")
    values = <tuple>value
    for place in plan.strict:
        if values[place] != plan.defaults[place]:
            raise UnsupportedVersionError(
                f"{plan.record.__name__}.{plan.names[place]} cannot be sent to this broker, "
                "which speaks an older version"
            )
    for i in range(plan.field_count):
        place = plan.places[i]
        _write(
            w,
            <Plan>PyTuple_GET_ITEM(plan.plans, i),
            plan.skipped_defaults[i] if place < 0 else values[place],
        )
    if plan.flexible:
        _write_tagged(w, plan, values)
    return 0


cdef int _write_tagged(_Writer w, Plan plan, tuple values) except -1:
    """Write the tagged fields whose value is not the default, in the order of their tags."""
    cdef Py_ssize_t place, start, size, prefix
    cdef Py_ssize_t cuts = len(w.cuts)
    cdef Plan field
    cdef list present = [
        item for item in plan.tagged if _differs(values[item[2]], plan.defaults[item[2]])
    ]
    w.write_varint(len(present))
    for tag, field, place in present:
        w.write_varint(tag)
        start = w.size
        _write(w, field, values[place])
        if len(w.cuts) != cuts:
            raise TypeError("records cannot be tagged")
        # The size comes before the value but is known only after it: move the value.
        size = w.size - start
        w.write_varint(size)
        prefix = w.size - start - size
        memmove(w.data + start + prefix, w.data + start, size)
        w.size = start
        w.write_varint(size)
        w.size += size
    return 0


cdef bint _differs(value, default):
    # An empty list equals the default of an empty tuple.
    return value != default and not (isinstance(default, tuple) and not default and not value)


def encode(value, Plan plan not None):
    """Return the chunks of `value`: bytes, and between them the buffers of its records."""
    writer = _Writer()
    _write(writer, plan, value)
    return writer.finish()


def encode_frame(header, Plan header_plan not None, body, Plan body_plan not None):
    """Return the chunks of one frame: its size in 4 bytes, header, body."""
    cdef _Writer writer = _Writer()
    cdef int64_t total
    writer.reserve(4)
    _write(writer, header_plan, header)
    _write(writer, body_plan, body)
    total = writer.size - 4 + writer.chunk_bytes
    if total > 0x7FFFFFFF:
        raise OverflowError(f"a frame of {total} bytes is too large")
    _put32(writer.data, <uint32_t>total)
    return writer.finish()
