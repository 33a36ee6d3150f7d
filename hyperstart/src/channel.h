/* Framing of the two channels (docs/guest-protocol.md). Pure: no I/O.
 *
 * A decoder says where it wants the next bytes (`want`), and is told how many
 * arrived there (`advance`), which answers FRAME_MORE, FRAME_COMPLETE or
 * FRAME_VIOLATION. After FRAME_COMPLETE the frame is valid until `next`. */
#ifndef HYPER_CHANNEL_H
#define HYPER_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory.h"

#define CTL_HEADER 8
#define CTL_MAX (4u << 20)
#define STREAM_HEADER 12
#define STREAM_MAX 65536u
#define STREAM_WINDOW_FLAG (UINT64_C(1) << 63)

enum frame_status { FRAME_VIOLATION = -1, FRAME_MORE = 0, FRAME_COMPLETE = 1 };

struct ctl_decoder {
    uint8_t header[CTL_HEADER];
    size_t have; /* of header and body together */
    uint32_t code;
    size_t length; /* of the body; valid once the header is there */
    char *body;    /* allocated on demand, ends with an extra NUL */
};

uint8_t *ctl_want(struct ctl_decoder *decoder, size_t *size);
enum frame_status ctl_advance(struct ctl_decoder *decoder, size_t size);
void ctl_next(struct ctl_decoder *decoder);
/* Append a whole message to `out`; `json` is its payload. */
void ctl_encode(struct buffer *out, uint32_t code, const void *json, size_t size);

struct stream_decoder {
    uint8_t header[STREAM_HEADER];
    size_t have;
    uint32_t stream;
    bool window; /* a window frame: `count` is what was granted, there is no data */
    uint32_t count;
    size_t length;
    uint8_t data[STREAM_MAX];
};

uint8_t *stream_want(struct stream_decoder *decoder, size_t *size);
enum frame_status stream_advance(struct stream_decoder *decoder, size_t size);
void stream_next(struct stream_decoder *decoder);
void stream_put_header(uint8_t header[STREAM_HEADER], uint32_t stream, uint32_t length);
void stream_put_window(struct buffer *out, uint32_t stream, uint32_t count);

#endif
