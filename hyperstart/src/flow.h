/* Flow control of one stream (docs/guest-protocol.md). Pure: no I/O. */
#ifndef HYPER_FLOW_H
#define HYPER_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOW_WINDOW 65536u
/* Grants are gathered up to this much, so that small writes don't double the frames. */
#define FLOW_GRANT_STEP (FLOW_WINDOW / 4)

/* What this side may still send. */
struct send_window {
    uint32_t left;
};
void send_window_init(struct send_window *window);
bool send_window_grant(struct send_window *window, uint32_t count); /* false: a violation */

/* What a serial line holds for us before we read it: three quarters of the kernel's line buffer. The
 * host has no more than that under way; it is told what we have read. */
#define LINE_WINDOW 3072u

struct line_window {
    bool bounded; /* else the port keeps what does not fit, and nothing is told */
    uint32_t taken;
};
/* So many bytes were read; returns how many to grant now, 0 for none yet. */
uint32_t line_take_grant(struct line_window *window, size_t size);

/* What was received and not yet passed on: at most one window. */
struct receive_buffer {
    uint8_t *data; /* allocated at the first use */
    uint32_t start, length;
    uint32_t passed_on; /* not yet granted again */
};
/* False when the sender exceeded what was granted. */
bool receive_put(struct receive_buffer *buffer, const uint8_t *data, size_t size);
/* The bytes to pass on next, contiguous. */
const uint8_t *receive_peek(const struct receive_buffer *buffer, size_t *size);
void receive_pass_on(struct receive_buffer *buffer, size_t size);
void receive_discard(struct receive_buffer *buffer); /* counts as passed on */
uint32_t receive_take_grant(struct receive_buffer *buffer); /* 0: not worth a frame yet */
void receive_free(struct receive_buffer *buffer);

#endif
