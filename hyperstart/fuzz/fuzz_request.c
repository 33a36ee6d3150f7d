/* The decoding of requests without the framing: the first byte is the code. */
#include <stdlib.h>
#include <string.h>

#include "request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void die(const char *format, ...)
{
    (void)format;
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request request;
    struct failure failure;
    if (!size)
        return 0;
    char *json = malloc(size); /* its own, so that a byte too far is seen */
    memcpy(json, data + 1, size - 1);
    int result = request_decode(&request, data[0], json, size - 1, &failure);
    if ((result < 0) != (failure.code != 0) || (!result && !request.seq))
        abort();
    const struct process_spec *init = &request.new_container.process;
    if (!result && data[0] == NEWCONTAINER && !init->args[0] && !init->idle)
        abort();
    request_free(&request);
    free(json);
    return 0;
}
