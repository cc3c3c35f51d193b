# cython: language_level=3
"""How the records of a batch move to new batches: to smaller ones, or without refused records.

Whoever waits for a record waits for it in its new batch from then on (`Delivery._follow_split`).
"""


cdef list split_batch(RecordBatch batch, Py_ssize_t limit):
    assert batch.outcome == PENDING and batch.compressed is None
    cdef const char* at = batch._records()
    cdef int32_t index
    cdef EncodedRecord record
    cdef RecordBatch part = None
    cdef list parts = []
    for index in range(batch.record_count):
        record = take_record(&at, batch.base_timestamp_ms)
        if part is not None and limit < part.size_with(
            record.key, record.value, record.headers_size, record.timestamp_ms
        ):
            part = None
        if part is None:
            part = new_part(batch)
            parts.append((index, part, 0))
        append_encoded(part, record, limit)
    end_split(batch, parts)
    return [part for _, part, _ in parts]


cdef tuple refuse_records(RecordBatch batch, object errors):
    assert batch.outcome == PENDING and batch.compressed is None
    cdef const char* at = batch._records()
    cdef int32_t index
    cdef EncodedRecord record
    cdef RecordBatch others = None
    cdef RecordBatch refused
    cdef bint is_run = False
    cdef list parts = []
    cdef list failed = []
    for index in range(batch.record_count):
        record = take_record(&at, batch.base_timestamp_ms)
        error = errors.get(index)
        if error is not None:
            refused = new_part(batch)
            refused.record_count = 1
            refused.fail(error)
            failed.append(refused)
            parts.append((index, refused, 0))
            is_run = False
            continue
        if others is None:
            others = new_part(batch)
        if not is_run:
            parts.append((index, others, others.record_count))
            is_run = True
        append_encoded(others, record, batch.size)
    end_split(batch, parts)
    return others, failed


cdef RecordBatch new_part(RecordBatch batch):
    cdef RecordBatch part = RecordBatch.__new__(RecordBatch)
    part.begin(batch.topic, batch.partition, batch.loop, batch.created_at)
    # The attempt that led to the split does not count: the parts were never sent.
    part.attempts = max(batch.attempts - 1, 0)
    part.times_taken = batch.times_taken
    part.last_error = batch.last_error
    part.possibly_persisted = batch.possibly_persisted
    return part


cdef int end_split(RecordBatch batch, list parts) except -1:
    cdef Delivery delivery
    for _, part, _ in parts:
        (<RecordBatch>part).close()
    batch.outcome = SPLIT
    batch.parts = parts
    batch.memory = None
    enrolled = batch.enrolled
    batch.enrolled = None
    if enrolled is not None:
        for delivery in enrolled:
            delivery.is_enrolled = False
            delivery._outcome()
            delivery._enrol()
    # Last: they find the batches of their records by themselves, from this one.
    return moved_on(batch)


cdef int append_encoded(RecordBatch batch, EncodedRecord record, Py_ssize_t limit) except -1:
    # `append` takes `headers_size` into account and encodes an empty list; the encoded headers are
    # copied over it.
    batch.append(
        record.key, record.value, None, record.headers_size, record.timestamp_ms, limit
    )
    memcpy(
        batch.memory.data + batch.size - record.headers_size, record.headers, record.headers_size
    )
    return 0
