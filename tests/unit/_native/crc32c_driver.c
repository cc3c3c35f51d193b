/* Holds crc32c.c against the division bit by bit, and prints the path that it chose.
 *
 * A program of its own: so it can be built for another processor and run under an emulator, where
 * no Python is. It includes the source, to see the choice. WITHOUT_INSTRUCTION makes the processor
 * deny the instruction: qemu emulates no ARM that has none.
 */
#if defined(WITHOUT_INSTRUCTION)
#if defined(__x86_64__)
#define __builtin_cpu_supports(name) 0
#elif defined(__linux__)
#include <sys/auxv.h>
#define getauxval(type) 0ul
#endif
#endif

#include "crc32c.c"

#include <stdio.h>
#include <stdlib.h>

#define ALIGNMENTS 16u
#define LONGEST 4096u          /* of each length: one round of stripes and any rest */
#define DRAWN (5 * 3 * STRIPE) /* of drawn lengths: several rounds */

static const struct {
    const char *name;
    uint32_t (*run)(uint32_t crc, const void *data, size_t length);
} paths[] = {{"chosen", aioproducer_crc32c}, {"portable", aioproducer_crc32c_portable}};

static unsigned char bytes[DRAWN + ALIGNMENTS];

/* xorshift: the same numbers on each platform. */
static uint32_t draw(uint32_t below)
{
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

static uint32_t divide(uint32_t crc, const unsigned char *data, size_t length)
{
    crc = ~crc;
    while (length--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static void check(const char *what, uint32_t start, const void *data, size_t length,
                  uint32_t expected)
{
    for (size_t path = 0; path < 2; path++) {
        uint32_t found = paths[path].run(start, data, length);
        if (found != expected) {
            fprintf(stderr, "%s path, %s of %zu bytes: %08x instead of %08x\n", paths[path].name,
                    what, length, (unsigned)found, (unsigned)expected);
            exit(1);
        }
    }
}

int main(void)
{
    unsigned char rising[32], falling[32], zeros[32], ones[32];
    aioproducer_crc32c_init();

    for (unsigned at = 0; at < 32; at++) {
        rising[at] = (unsigned char)at;
        falling[at] = (unsigned char)(31 - at);
        zeros[at] = 0;
        ones[at] = 0xff;
    }
    check("check value", 0, "123456789", 9, 0xe3069283u);
    /* RFC 3720, B.4 */
    check("zeros", 0, zeros, 32, 0x8a9136aau);
    check("ones", 0, ones, 32, 0x62a8ab43u);
    check("rising", 0, rising, 32, 0x46dd794eu);
    check("falling", 0, falling, 32, 0x113fdb5cu);

    for (size_t at = 0; at < sizeof bytes; at++)
        bytes[at] = (unsigned char)draw(256);
    for (size_t start = 0; start < ALIGNMENTS; start++) {
        uint32_t expected = 0;
        for (size_t length = 0; length <= LONGEST; length++) {
            check("each length", 0, bytes + start, length, expected);
            expected = divide(expected, bytes + start + length, 1);
        }
    }
    for (int round = 0; round < 200; round++) {
        const unsigned char *data = bytes + draw(ALIGNMENTS);
        size_t length = draw(DRAWN + 1), cut = draw((uint32_t)length + 1);
        uint32_t before = divide(0, data, cut);
        check("a first part", 0, data, cut, before);
        check("a second part", before, data + cut, length - cut,
              divide(before, data + cut, length - cut));
    }
    puts(has_hardware ? "hardware" : "portable");
    return 0;
}
