/* Memory: arenas that live as long as a request, and growing byte buffers.
 * Running out of memory ends the VM: pid 1 has nothing better to do. */
#ifndef HYPER_MEMORY_H
#define HYPER_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* For large buffers that are seldom used: they lie behind all else, so that what is written all the
 * time shares few pages. A fork costs a fault and a copy for each of these. */
#define SELDOM __attribute__((section(".bss.zz")))

struct arena_block;
struct arena {
    struct arena_block *blocks;
};

void *arena_alloc(struct arena *arena, size_t size); /* zeroed, aligned for any type */
void *arena_array(struct arena *arena, size_t count, size_t size);
char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void arena_free(struct arena *arena);

void *allocate(size_t size); /* zeroed */

/* Bytes are appended at the end and consumed from `start`. */
struct buffer {
    uint8_t *data;
    size_t start, end, capacity;
};

static inline size_t buffer_length(const struct buffer *buffer)
{
    return buffer->end - buffer->start;
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t size); /* room after the end */
void buffer_append(struct buffer *buffer, const void *data, size_t size);
void buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void buffer_consume(struct buffer *buffer, size_t size);
void buffer_free(struct buffer *buffer);

/* A JSON string with its quotes. Bytes that are not UTF-8 become the lone
 * surrogates U+DC80…U+DCFF (Python's `surrogateescape`). */
void buffer_json_string(struct buffer *buffer, const char *text, size_t size);

#endif
