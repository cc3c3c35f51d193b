/* CRC-32C (Castagnoli) with the processor's own instruction where there is one. */
#ifndef AIOPRODUCER_CRC32C_H
#define AIOPRODUCER_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Build the tables; called once, when the module that links this file is loaded. */
void aioproducer_crc32c_init(void);

/* Continue `crc` (0 to start) over `length` bytes. */
uint32_t aioproducer_crc32c(uint32_t crc, const void *data, size_t length);

/* The table-driven path, exported so that the tests can compare the two. */
uint32_t aioproducer_crc32c_portable(uint32_t crc, const void *data, size_t length);

#endif
