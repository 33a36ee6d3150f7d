#include "memory.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

#define ARENA_BLOCK 8192

struct arena_block {
    struct arena_block *next;
    size_t used, capacity;
    alignas(max_align_t) uint8_t data[];
};

void *allocate(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    if (!memory)
        die("out of memory (%zu bytes)", size);
    return memory;
}

/* One block is kept for the next request: the C library would give its memory back to the kernel,
 * and getting it again, with page faults, takes longer than the request. */
static struct arena_block *spare;

static struct arena_block *new_block(size_t size)
{
    struct arena_block *block = size > ARENA_BLOCK ? NULL : spare;
    if (block) {
        spare = NULL;
        memset(block->data, 0, block->used);
        block->used = 0;
        return block;
    }
    size_t capacity = size > ARENA_BLOCK ? size : ARENA_BLOCK;
    block = allocate(sizeof *block + capacity);
    block->capacity = capacity;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    size_t step = alignof(max_align_t);
    if (size > SIZE_MAX / 2)
        die("allocation of %zu bytes", size);
    size = (size + step - 1) / step * step;
    struct arena_block *block = arena->blocks;
    if (!block || block->capacity - block->used < size) {
        block = new_block(size);
        block->next = arena->blocks;
        arena->blocks = block;
    }
    void *memory = block->data + block->used;
    block->used += size;
    return memory;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / 2 / size)
        die("allocation of %zu items", count);
    return arena_alloc(arena, count * size);
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = arena_alloc(arena, (size_t)length + 1);
    va_start(args, format);
    vsnprintf(text, (size_t)length + 1, format, args);
    va_end(args);
    return text;
}

void arena_free(struct arena *arena)
{
    while (arena->blocks) {
        struct arena_block *next = arena->blocks->next;
        if (!spare && arena->blocks->capacity == ARENA_BLOCK)
            spare = arena->blocks;
        else
            free(arena->blocks);
        arena->blocks = next;
    }
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t size)
{
    if (buffer->capacity - buffer->end < size && buffer->start) {
        memmove(buffer->data, buffer->data + buffer->start, buffer_length(buffer));
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    if (buffer->capacity - buffer->end < size) {
        size_t capacity = buffer->capacity ? buffer->capacity : 1024;
        while (capacity - buffer->end < size)
            capacity *= 2;
        uint8_t *data = realloc(buffer->data, capacity);
        if (!data)
            die("out of memory (%zu bytes)", capacity);
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->end;
}

void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    memcpy(buffer_reserve(buffer, size), data, size);
    buffer->end += size;
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *end = (char *)buffer_reserve(buffer, (size_t)length + 1);
    va_start(args, format);
    vsnprintf(end, (size_t)length + 1, format, args);
    va_end(args);
    buffer->end += (size_t)length;
}

void buffer_consume(struct buffer *buffer, size_t size)
{
    buffer->start += size;
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

/* The length of the UTF-8 sequence at `text` (RFC 3629), 0 if it is not one. */
static size_t utf8_sequence(const unsigned char *text, size_t size)
{
    unsigned first = text[0];
    if (first < 0x80)
        return 1;
    size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) ||
        (first == 0xf0 && text[1] < 0x90) || (first == 0xf4 && text[1] > 0x8f))
        return 0;
    return length;
}

void buffer_json_string(struct buffer *buffer, const char *text, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)text;
    buffer_append(buffer, "\"", 1);
    for (size_t i = 0; i < size;) {
        size_t length = utf8_sequence(bytes + i, size - i);
        if (!length)
            buffer_printf(buffer, "\\udc%02x", bytes[i]);
        else if (bytes[i] < 0x20 || bytes[i] == '"' || bytes[i] == '\\' || bytes[i] == 0x7f)
            buffer_printf(buffer, "\\u%04x", bytes[i]);
        else
            buffer_append(buffer, bytes + i, length);
        i += length ? length : 1;
    }
    buffer_append(buffer, "\"", 1);
}
