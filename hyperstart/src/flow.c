#include "flow.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

void send_window_init(struct send_window *window)
{
    window->left = FLOW_WINDOW;
}

bool send_window_grant(struct send_window *window, uint32_t count)
{
    if (count > INT32_MAX || window->left > INT32_MAX - count)
        return false;
    window->left += count;
    return true;
}

uint32_t line_take_grant(struct line_window *window, size_t size)
{
    if (!window->bounded)
        return 0;
    uint32_t count = window->taken += (uint32_t)size;
    if (count < LINE_WINDOW / 2)
        return 0;
    window->taken = 0;
    return count;
}

bool receive_put(struct receive_buffer *buffer, const uint8_t *data, size_t size)
{
    if (size > FLOW_WINDOW - buffer->length - buffer->passed_on)
        return false;
    if (!buffer->data)
        buffer->data = allocate(FLOW_WINDOW);
    uint32_t end = (buffer->start + buffer->length) % FLOW_WINDOW;
    size_t first = FLOW_WINDOW - end < size ? FLOW_WINDOW - end : size;
    memcpy(buffer->data + end, data, first);
    memcpy(buffer->data, data + first, size - first);
    buffer->length += (uint32_t)size;
    return true;
}

const uint8_t *receive_peek(const struct receive_buffer *buffer, size_t *size)
{
    uint32_t contiguous = FLOW_WINDOW - buffer->start;
    *size = buffer->length < contiguous ? buffer->length : contiguous;
    return buffer->data ? buffer->data + buffer->start : NULL;
}

void receive_pass_on(struct receive_buffer *buffer, size_t size)
{
    buffer->start = (buffer->start + (uint32_t)size) % FLOW_WINDOW;
    buffer->length -= (uint32_t)size;
    buffer->passed_on += (uint32_t)size;
}

void receive_discard(struct receive_buffer *buffer)
{
    receive_pass_on(buffer, buffer->length);
}

uint32_t receive_take_grant(struct receive_buffer *buffer)
{
    if (buffer->passed_on < FLOW_GRANT_STEP)
        return 0;
    uint32_t count = buffer->passed_on;
    buffer->passed_on = 0;
    return count;
}

void receive_free(struct receive_buffer *buffer)
{
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}
