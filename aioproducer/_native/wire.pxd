# Numbers on the wire: big-endian, or seven bits a byte. Shared by cimport.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    BATCH_HEADER_BYTES = 61
    TOPIC_ID_BYTES = 16
    FIRST_WITH_TOPIC_IDS = 13   # the first version of Produce with topic ids in place of names


cdef inline uint16_t get_uint16(const uint8_t* at) noexcept nogil:
    return <uint16_t>((<uint16_t>at[0] << 8) | at[1])


cdef inline uint32_t get_uint32(const uint8_t* at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline uint64_t get_uint64(const uint8_t* at) noexcept nogil:
    return (<uint64_t>get_uint32(at) << 32) | get_uint32(at + 4)


cdef inline char* put_int(char* at, int64_t value, int size) noexcept nogil:
    cdef int shift = 8 * (size - 1)
    while shift >= 0:
        at[0] = <char>((value >> shift) & 0xFF)
        at += 1
        shift -= 8
    return at


cdef inline char* put_uvarint(char* at, uint64_t value) noexcept nogil:
    while value >= 0x80:
        at[0] = <char>((value & 0x7F) | 0x80)
        at += 1
        value >>= 7
    at[0] = <char>value
    return at + 1
