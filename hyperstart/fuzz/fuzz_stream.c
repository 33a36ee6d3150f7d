/* The stream channel: framing, windows, and the buffer of what is to be passed on. */
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "failure.h"
#include "flow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void die(const char *format, ...)
{
    (void)format;
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct stream_decoder decoder;
    struct receive_buffer input = {0};
    struct send_window window;
    memset(&decoder, 0, sizeof decoder);
    send_window_init(&window);
    while (size) {
        size_t room;
        uint8_t *where = stream_want(&decoder, &room);
        size_t count = size < room ? size : room;
        memcpy(where, data, count);
        data += count;
        size -= count;
        enum frame_status status = stream_advance(&decoder, count);
        if (status == FRAME_VIOLATION)
            break;
        if (status == FRAME_MORE)
            continue;
        if (decoder.window)
            send_window_grant(&window, decoder.count);
        else if (!receive_put(&input, decoder.data, decoder.length))
            break;
        receive_peek(&input, &count);
        receive_pass_on(&input, decoder.stream % 3 ? count : count / 2);
        receive_take_grant(&input);
        stream_next(&decoder);
    }
    receive_free(&input);
    return 0;
}
