/* The control channel: any bytes through the framing, and what is framed through
 * the decoding of requests. The input's first byte says how the bytes are cut. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void die(const char *format, ...)
{
    (void)format;
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ctl_decoder decoder = {0};
    if (!size)
        return 0;
    size_t piece = *data++ + 1u;
    size--;
    while (size) {
        size_t room;
        uint8_t *where = ctl_want(&decoder, &room);
        size_t count = size < piece ? size : piece;
        count = count < room ? count : room;
        memcpy(where, data, count);
        data += count;
        size -= count;
        enum frame_status status = ctl_advance(&decoder, count);
        if (status == FRAME_VIOLATION)
            break;
        if (status == FRAME_COMPLETE) {
            struct request request;
            struct failure failure;
            int result = request_decode(&request, decoder.code, decoder.body, decoder.length,
                                        &failure);
            if ((result < 0) != (failure.code != 0))
                abort();
            request_free(&request);
            ctl_next(&decoder);
        }
    }
    ctl_next(&decoder);
    return 0;
}
