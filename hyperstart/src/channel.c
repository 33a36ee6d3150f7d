#include "channel.h"

#include <stdlib.h>
#include <string.h>

static uint32_t get32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void put32(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 24);
    bytes[1] = (uint8_t)(value >> 16);
    bytes[2] = (uint8_t)(value >> 8);
    bytes[3] = (uint8_t)value;
}

uint8_t *ctl_want(struct ctl_decoder *decoder, size_t *size)
{
    if (decoder->have < CTL_HEADER) {
        *size = CTL_HEADER - decoder->have;
        return decoder->header + decoder->have;
    }
    size_t have = decoder->have - CTL_HEADER;
    *size = decoder->length - have;
    return (uint8_t *)decoder->body + have;
}

enum frame_status ctl_advance(struct ctl_decoder *decoder, size_t size)
{
    bool had_header = decoder->have >= CTL_HEADER;
    decoder->have += size;
    if (decoder->have < CTL_HEADER)
        return FRAME_MORE;
    if (!had_header) {
        uint32_t total = get32(decoder->header + 4);
        if (total < CTL_HEADER || total > CTL_MAX)
            return FRAME_VIOLATION;
        decoder->code = get32(decoder->header);
        decoder->length = total - CTL_HEADER;
        decoder->body = allocate(decoder->length + 1);
    }
    return decoder->have == CTL_HEADER + decoder->length ? FRAME_COMPLETE : FRAME_MORE;
}

void ctl_next(struct ctl_decoder *decoder)
{
    free(decoder->body);
    memset(decoder, 0, sizeof *decoder);
}

void ctl_encode(struct buffer *out, uint32_t code, const void *json, size_t size)
{
    uint8_t header[CTL_HEADER];
    put32(header, code);
    put32(header + 4, (uint32_t)(CTL_HEADER + size));
    buffer_append(out, header, sizeof header);
    buffer_append(out, json, size);
}

uint8_t *stream_want(struct stream_decoder *decoder, size_t *size)
{
    if (decoder->have < STREAM_HEADER) {
        *size = STREAM_HEADER - decoder->have;
        return decoder->header + decoder->have;
    }
    size_t have = decoder->have - STREAM_HEADER;
    *size = decoder->length - have;
    return decoder->data + have;
}

static enum frame_status stream_parse_header(struct stream_decoder *decoder)
{
    uint32_t high = get32(decoder->header);
    decoder->stream = get32(decoder->header + 4);
    decoder->window = high >> 31;
    decoder->length = get32(decoder->header + 8);
    if ((high & 0x7fffffff) || !decoder->stream || decoder->stream >> 31)
        return FRAME_VIOLATION;
    if (decoder->length > STREAM_MAX || (decoder->window && decoder->length != 4))
        return FRAME_VIOLATION;
    return FRAME_MORE;
}

enum frame_status stream_advance(struct stream_decoder *decoder, size_t size)
{
    bool had_header = decoder->have >= STREAM_HEADER;
    decoder->have += size;
    if (decoder->have < STREAM_HEADER)
        return FRAME_MORE;
    if (!had_header && stream_parse_header(decoder) == FRAME_VIOLATION)
        return FRAME_VIOLATION;
    if (decoder->have < STREAM_HEADER + decoder->length)
        return FRAME_MORE;
    if (decoder->window)
        decoder->count = get32(decoder->data);
    return FRAME_COMPLETE;
}

void stream_next(struct stream_decoder *decoder)
{
    decoder->have = 0;
}

void stream_put_header(uint8_t header[STREAM_HEADER], uint32_t stream, uint32_t length)
{
    put32(header, 0);
    put32(header + 4, stream);
    put32(header + 8, length);
}

void stream_put_window(struct buffer *out, uint32_t stream, uint32_t count)
{
    uint8_t frame[STREAM_HEADER + 4];
    stream_put_header(frame, stream, 4);
    frame[0] = 0x80;
    put32(frame + STREAM_HEADER, count);
    buffer_append(out, frame, sizeof frame);
}
