/* The decoding of the headers of files that come into a container. */
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
    struct entry_spec entry;
    struct arena arena = {0};
    struct failure failure = {0};
    char *json = malloc(size + 1); /* its own, so that a byte too far is seen */
    memcpy(json, data, size);
    int result = entry_decode(&entry, &arena, json, size, &failure);
    if ((result < 0) != (failure.code != 0))
        abort();
    if (!result && (entry.path[0] == '/' || !path_stays_below(entry.path)))
        abort();
    arena_free(&arena);
    free(json);
    return 0;
}
