/* JSON of a request: bounded accessors over jsmn's tokens. Pure.
 *
 * A value is the index of its token; -1 means absent, which `null` counts as.
 * Failures go to `failure` of the document, the first one wins; after it the
 * accessors return zeros, so that a decoder need not check each. */
#ifndef HYPER_JSON_H
#define HYPER_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "memory.h"

#define JSON_MAX_VALUES 262144

struct json_token;
struct json {
    const char *text;
    const struct json_token *tokens;
    int count;
    struct arena *arena;
    struct failure *failure;
};

enum { JSON_OPTIONAL = 0, JSON_REQUIRED = 1 };

/* The root (an object) is value 0. Returns -1, with a failure, for anything else. */
int json_parse(struct json *json, const char *text, size_t size);

int json_get(struct json *json, int object, const char *key); /* any type */
int json_object(struct json *json, int object, const char *key);
/* An array and the number of its items; walk it with json_first and json_after. */
int json_array(struct json *json, int object, const char *key, size_t *count);
int json_first(struct json *json, int container);
int json_after(struct json *json, int value);
/* The pairs of an object; the index of the first key is json_first, the value
 * follows its key, the next key is json_after of the value. */
size_t json_pairs(struct json *json, int object);

/* Strings are NUL-terminated, in the arena; a NUL inside is a failure. */
char *json_text(struct json *json, int value, const char *what);
char *json_string(struct json *json, int object, const char *key, int required);
char **json_strings(struct json *json, int object, const char *key, size_t *count);
bool json_bool(struct json *json, int object, const char *key, bool absent);
int64_t json_int_value(struct json *json, int value, const char *what, int64_t min, int64_t max);
int64_t json_int(struct json *json, int object, const char *key, int64_t min, int64_t max,
                 int64_t absent);
bool json_is_string(struct json *json, int value);

/* Standard base64 with padding. Returns the decoded size, or -1. `out` has room for size/4*3. */
int64_t base64_decode(const char *text, size_t size, uint8_t *out);

#endif
