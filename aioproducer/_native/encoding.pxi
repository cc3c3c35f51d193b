# cython: language_level=3
"""The encoding of records in a batch: varints, fields, headers (KIP-98, magic 2).

The `take` functions read only what the `put` functions wrote: they check nothing.
"""

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


cdef struct EncodedRecord:
    int64_t timestamp_ms
    Field key
    Field value
    const char* headers       # their count, then each of them
    Py_ssize_t headers_size


# ---- varints: zigzag, seven bits a byte, as in protocol buffers

cdef inline int varint_size(int64_t value) noexcept nogil:
    cdef uint64_t zigzag = (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)
    cdef int size = 1
    while zigzag >= 0x80:
        zigzag >>= 7
        size += 1
    return size


cdef inline char* put_varint(char* at, int64_t value) noexcept nogil:
    cdef uint64_t zigzag = (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)
    while zigzag >= 0x80:
        at[0] = <char>((zigzag & 0x7F) | 0x80)
        at += 1
        zigzag >>= 7
    at[0] = <char>zigzag
    return at + 1


cdef inline int64_t take_varint(const char** at) noexcept nogil:
    cdef uint64_t zigzag = 0
    cdef int shift = 0
    cdef unsigned char byte
    while True:
        byte = <unsigned char>at[0][0]
        at[0] += 1
        zigzag |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return <int64_t>(zigzag >> 1) ^ -<int64_t>(zigzag & 1)
        shift += 7


# ---- fields: a key, a value, the name or the value of a header

cdef inline char* put_field(char* at, Field field) noexcept nogil:
    at = put_varint(at, field.length)
    if field.length > 0:
        memcpy(at, field.data, field.length)
        at += field.length
    return at


cdef inline Field take_field(const char** at) noexcept nogil:
    cdef Field field
    field.length = take_varint(at)
    field.data = at[0]
    if field.length > 0:
        at[0] += field.length
    return field


cdef inline Py_ssize_t field_size(Field field) noexcept nogil:
    return varint_size(field.length) + (field.length if field.length > 0 else 0)


cdef inline object field_bytes(Field field):
    if field.length < 0:
        return None
    return PyBytes_FromStringAndSize(field.data, field.length)


# ---- headers: `headers` is a list or tuple of (str, bytes | None), checked by the caller

cdef Field header_value(object value) noexcept:
    cdef Field field
    if value is None:
        field.data = NULL
        field.length = -1
    else:
        field.data = PyBytes_AS_STRING(value)
        field.length = PyBytes_GET_SIZE(value)
    return field


cdef Py_ssize_t measure_headers(object headers) except -1:
    cdef Field name
    cdef Py_ssize_t size = 0
    if headers is None:
        return varint_size(0)
    for header in headers:
        name.data = PyUnicode_AsUTF8AndSize((<tuple>header)[0], &name.length)
        size += field_size(name) + field_size(header_value((<tuple>header)[1]))
    return size + varint_size(len(headers))


cdef char* put_headers(char* at, object headers) except NULL:
    cdef Field name
    if headers is None:
        return put_varint(at, 0)
    at = put_varint(at, len(headers))
    for header in headers:
        name.data = PyUnicode_AsUTF8AndSize((<tuple>header)[0], &name.length)
        at = put_field(at, name)
        at = put_field(at, header_value((<tuple>header)[1]))
    return at


cdef tuple take_headers(const char* at):
    cdef Field name
    cdef int64_t count = take_varint(&at)
    headers = []
    while count > 0:
        name = take_field(&at)
        headers.append((field_bytes(name).decode(), field_bytes(take_field(&at))))
        count -= 1
    return tuple(headers)


# ---- records

cdef EncodedRecord take_record(const char** at, int64_t base_timestamp_ms) noexcept nogil:
    cdef EncodedRecord record
    cdef Py_ssize_t size = take_varint(at)
    cdef const char* end = at[0] + size
    at[0] += 1   # attributes: none are defined
    record.timestamp_ms = base_timestamp_ms + take_varint(at)
    take_varint(at)
    record.key = take_field(at)
    record.value = take_field(at)
    record.headers = at[0]
    record.headers_size = end - at[0]
    at[0] = end
    return record


def decode_records(payload, int record_count, int64_t base_timestamp_ms):
    """Decode the uncompressed payload of a batch: a list of (key, value, headers, timestamp_ms)."""
    cdef const unsigned char[::1] encoded = payload
    cdef const char* at = <const char*>&encoded[0] if encoded.shape[0] else NULL
    cdef EncodedRecord record
    if at is NULL and record_count:
        raise ValueError("there is no payload: the batch is open, or has let go of its records")
    records = []
    for _ in range(record_count):
        record = take_record(&at, base_timestamp_ms)
        records.append((
            field_bytes(record.key),
            field_bytes(record.value),
            take_headers(record.headers),
            record.timestamp_ms,
        ))
    return records
