/* CRC-32C, the checksum of a record batch (KIP-98). A batch is checksummed once per attempt, so
 * this runs over every byte sent. Three paths, chosen once, by what the processor at hand has: a
 * wheel is built for the oldest processor of its platform, so no flag of the compiler may say it.
 *
 *   x86-64 SSE4.2 and ARMv8 CRC: the instruction has a latency of 3 cycles and a throughput of 1,
 *     so one stream uses a third of the unit. Long inputs are cut into three stripes that run
 *     interleaved; each stripe's CRC is then moved past the following stripes with a table that
 *     multiplies by x^(8 * STRIPE) modulo the polynomial.
 *   portable: slicing by 8.
 *
 * The tables are built from the polynomial when the module is loaded: no constants to trust.
 */
#include "crc32c.h"

#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HARDWARE_X86 1
#include <nmmintrin.h>
#elif defined(__AARCH64EL__) && (defined(__GNUC__) || defined(__clang__))
#define HARDWARE_ARM 1
#if !defined(__clang__)
#include <arm_acle.h>
#endif
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

#define POLYNOMIAL 0x82f63b78u /* reflected */
#define STRIPE 1024u

static uint32_t slices[8][256];
static uint32_t skip_stripe[4][256]; /* the CRC register moved past STRIPE zero bytes */
static int has_hardware;

static uint32_t move_past_zeros(uint32_t crc, size_t zeros)
{
    while (zeros--)
        crc = slices[0][crc & 0xff] ^ (crc >> 8);
    return crc;
}

void aioproducer_crc32c_init(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? POLYNOMIAL : 0);
        slices[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++)
        for (int slice = 1; slice < 8; slice++)
            slices[slice][byte] =
                slices[0][slices[slice - 1][byte] & 0xff] ^ (slices[slice - 1][byte] >> 8);
    /* Linear: a byte's bits are moved one by one, and their sum is where the byte comes to. */
    for (int position = 0; position < 4; position++)
        for (uint32_t byte = 1; byte < 256; byte++) {
            uint32_t lowest = byte & -byte, others = byte ^ lowest;
            uint32_t *skip = skip_stripe[position];
            skip[byte] = others ? skip[lowest] ^ skip[others]
                                : move_past_zeros(byte << (8 * position), STRIPE);
        }
#if defined(HARDWARE_X86)
    __builtin_cpu_init();
    has_hardware = __builtin_cpu_supports("sse4.2");
#elif defined(HARDWARE_ARM)
#if defined(__ARM_FEATURE_CRC32) || defined(__APPLE__)
    has_hardware = 1; /* the compiler was told so, and no Mac with an ARM was ever without */
#elif defined(__linux__)
    has_hardware = (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
#endif
}

static uint32_t run_portable(uint32_t crc, const unsigned char *bytes, size_t length)
{
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        word ^= crc;
        crc = slices[7][word & 0xff] ^ slices[6][(word >> 8) & 0xff] ^
              slices[5][(word >> 16) & 0xff] ^ slices[4][(word >> 24) & 0xff] ^
              slices[3][(word >> 32) & 0xff] ^ slices[2][(word >> 40) & 0xff] ^
              slices[1][(word >> 48) & 0xff] ^ slices[0][word >> 56];
        bytes += 8;
        length -= 8;
    }
#endif
    while (length--)
        crc = slices[0][(crc ^ *bytes++) & 0xff] ^ (crc >> 8);
    return crc;
}

#if defined(HARDWARE_X86) || defined(HARDWARE_ARM)

#if defined(HARDWARE_X86)
#define TARGET __attribute__((target("sse4.2")))
#define STEP_8(crc, word) _mm_crc32_u64((crc), (word))
#define STEP_1(crc, byte) _mm_crc32_u8((uint32_t)(crc), (byte))
#elif defined(__clang__)
/* The arm_acle.h of clang 14 hides its functions from a file that is not built for them. */
#define TARGET __attribute__((target("crc")))
#define STEP_8(crc, word) __builtin_arm_crc32cd((uint32_t)(crc), (word))
#define STEP_1(crc, byte) __builtin_arm_crc32cb((uint32_t)(crc), (byte))
#else
#define TARGET __attribute__((target("+crc")))
#define STEP_8(crc, word) __crc32cd((uint32_t)(crc), (word))
#define STEP_1(crc, byte) __crc32cb((uint32_t)(crc), (byte))
#endif

static inline uint32_t move_past_stripe(uint32_t crc)
{
    return skip_stripe[0][crc & 0xff] ^ skip_stripe[1][(crc >> 8) & 0xff] ^
           skip_stripe[2][(crc >> 16) & 0xff] ^ skip_stripe[3][crc >> 24];
}

TARGET static uint32_t run_hardware(uint32_t start, const unsigned char *bytes, size_t length)
{
    uint64_t crc = start;
    while (length >= 3 * STRIPE) {
        uint64_t second = 0, third = 0;
        for (size_t at = 0; at < STRIPE; at += 8) {
            uint64_t a, b, c;
            memcpy(&a, bytes + at, 8);
            memcpy(&b, bytes + STRIPE + at, 8);
            memcpy(&c, bytes + 2 * STRIPE + at, 8);
            crc = STEP_8(crc, a);
            second = STEP_8(second, b);
            third = STEP_8(third, c);
        }
        crc = move_past_stripe((uint32_t)crc) ^ second;
        crc = move_past_stripe((uint32_t)crc) ^ third;
        bytes += 3 * STRIPE;
        length -= 3 * STRIPE;
    }
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        crc = STEP_8(crc, word);
        bytes += 8;
        length -= 8;
    }
    while (length--)
        crc = STEP_1(crc, *bytes++);
    return (uint32_t)crc;
}

#endif

uint32_t aioproducer_crc32c(uint32_t crc, const void *data, size_t length)
{
#if defined(HARDWARE_X86) || defined(HARDWARE_ARM)
    if (has_hardware)
        return ~run_hardware(~crc, data, length);
#endif
    return ~run_portable(~crc, data, length);
}

uint32_t aioproducer_crc32c_portable(uint32_t crc, const void *data, size_t length)
{
    return ~run_portable(~crc, data, length);
}
