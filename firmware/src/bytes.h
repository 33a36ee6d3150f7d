/* Numbers in the byte order of a format. */
#ifndef FIRMWARE_BYTES_H
#define FIRMWARE_BYTES_H

#include <stdint.h>

static inline uint32_t big32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static inline uint16_t little16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[1] << 8 | bytes[0]);
}

static inline uint32_t little32(const uint8_t *bytes)
{
    return (uint32_t)little16(bytes + 2) << 16 | little16(bytes);
}

static inline uint64_t little64(const uint8_t *bytes)
{
    return (uint64_t)little32(bytes + 4) << 32 | little32(bytes);
}

#endif
