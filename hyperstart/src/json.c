#include "json.h"

#include <string.h>

#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include <jsmn.h>

struct json_token {
    jsmntok_t t;
};

static const jsmntok_t *token(const struct json *json, int value)
{
    return &json->tokens[value].t;
}

/* jsmn lets `{"a"}` and `{"a":1 2}` pass: every member of an object must be a
 * string with exactly one value. */
static bool members_are_pairs(struct json *json)
{
    for (int i = 1; i < json->count; i++) {
        const jsmntok_t *parent = token(json, token(json, i)->parent);
        bool is_key = parent->type == JSMN_OBJECT;
        if (is_key && (token(json, i)->type != JSMN_STRING || token(json, i)->size != 1))
            return false;
        if (!is_key && parent->type != JSMN_ARRAY && parent->type != JSMN_STRING)
            return false;
        if (!is_key && token(json, i)->type == JSMN_STRING && token(json, i)->size != 0)
            return false;
    }
    return true;
}

int json_parse(struct json *json, const char *text, size_t size)
{
    jsmn_parser parser;
    jsmn_init(&parser);
    int count = jsmn_parse(&parser, text, size, NULL, 0);
    if (count < 1 || count > JSON_MAX_VALUES)
        return fail(json->failure, FAIL_BAD_REQUEST, "not a JSON object, or too many values");
    jsmntok_t *tokens = arena_array(json->arena, (size_t)count, sizeof *tokens);
    jsmn_init(&parser);
    count = jsmn_parse(&parser, text, size, tokens, (unsigned)count);
    json->text = text;
    json->tokens = (const struct json_token *)(const void *)tokens;
    json->count = count;
    if (count < 1 || tokens[0].type != JSMN_OBJECT)
        return fail(json->failure, FAIL_BAD_REQUEST, "not a JSON object");
    for (int i = 1; i < count; i++)
        if (tokens[i].parent < 0 || tokens[i].parent >= i)
            return fail(json->failure, FAIL_BAD_REQUEST, "more than one JSON value");
    if (!members_are_pairs(json))
        return fail(json->failure, FAIL_BAD_REQUEST, "malformed JSON object");
    return 0;
}

static bool contains(const struct json *json, int container, int value)
{
    return value < json->count && token(json, value)->start < token(json, container)->end;
}

int json_first(struct json *json, int container)
{
    return contains(json, container, container + 1) ? container + 1 : -1;
}

int json_after(struct json *json, int value)
{
    int end = token(json, value)->end, next = value + 1;
    while (next < json->count && token(json, next)->start < end)
        next++;
    return next;
}

size_t json_pairs(struct json *json, int object)
{
    return object < 0 || json->failure->code ? 0 : (size_t)token(json, object)->size;
}

static bool is_null(const struct json *json, int value)
{
    const jsmntok_t *t = token(json, value);
    return t->type == JSMN_PRIMITIVE && json->text[t->start] == 'n';
}

int json_get(struct json *json, int object, const char *key)
{
    if (object < 0 || json->failure->code || token(json, object)->type != JSMN_OBJECT)
        return -1;
    size_t length = strlen(key);
    size_t left = json_pairs(json, object);
    for (int i = object + 1; left > 0; left--) {
        const jsmntok_t *t = token(json, i);
        if ((size_t)(t->end - t->start) == length && !memcmp(json->text + t->start, key, length))
            return is_null(json, i + 1) ? -1 : i + 1;
        i = json_after(json, i + 1);
    }
    return -1;
}

static int get_typed(struct json *json, int object, const char *key, jsmntype_t type,
                     const char *name)
{
    int value = json_get(json, object, key);
    if (value >= 0 && token(json, value)->type != type) {
        fail(json->failure, FAIL_BAD_REQUEST, "%s must be %s", key, name);
        return -1;
    }
    return value;
}

int json_object(struct json *json, int object, const char *key)
{
    return get_typed(json, object, key, JSMN_OBJECT, "an object");
}

int json_array(struct json *json, int object, const char *key, size_t *count)
{
    int value = get_typed(json, object, key, JSMN_ARRAY, "an array");
    *count = value < 0 ? 0 : (size_t)token(json, value)->size;
    return value;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The four hexadecimal digits of \uXXXX; -1 if they are not there. */
static int32_t hex4(const char *text, const char *end)
{
    int32_t value = 0;
    if (end - text < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

static char *put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

/* One \uXXXX, or a pair of them; NULL when it is not allowed. */
static char *unescape_unicode(const char **in, const char *end, char *out)
{
    int32_t c = hex4(*in, end);
    if (c <= 0)
        return NULL;
    *in += 4;
    if (c >= 0xd800 && c < 0xdc00) {
        if (end - *in < 6 || (*in)[0] != '\\' || (*in)[1] != 'u')
            return NULL;
        int32_t low = hex4(*in + 2, end);
        if (low < 0xdc00 || low > 0xdfff)
            return NULL;
        *in += 6;
        return put_utf8(out, 0x10000 + (((uint32_t)c - 0xd800) << 10) + ((uint32_t)low - 0xdc00));
    }
    if (c >= 0xdc80 && c <= 0xdcff) { /* a byte that is not UTF-8: surrogateescape */
        *out++ = (char)(c - 0xdc00);
        return out;
    }
    return c >= 0xdc00 && c <= 0xdfff ? NULL : put_utf8(out, (uint32_t)c);
}

static char *unescape(const char **in, const char *end, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (*in == end)
        return NULL;
    char c = *(*in)++;
    if (c == 'u')
        return unescape_unicode(in, end, out);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return NULL;
    *out++ = to[at - from];
    return out;
}

bool json_is_string(struct json *json, int value)
{
    return value >= 0 && token(json, value)->type == JSMN_STRING;
}

char *json_text(struct json *json, int value, const char *what)
{
    if (json->failure->code)
        return NULL;
    if (!json_is_string(json, value)) {
        fail(json->failure, FAIL_BAD_REQUEST, "%s must be a string", what);
        return NULL;
    }
    const jsmntok_t *t = token(json, value);
    const char *in = json->text + t->start, *end = json->text + t->end;
    char *text = arena_alloc(json->arena, (size_t)(end - in) + 1), *out = text;
    while (in < end && out) {
        if (*in == '\\') {
            in++;
            out = unescape(&in, end, out);
        } else if (*in == '\0') {
            out = NULL;
        } else {
            *out++ = *in++;
        }
    }
    if (!out) {
        fail(json->failure, FAIL_BAD_REQUEST, "%s has a malformed or NUL character", what);
        return NULL;
    }
    *out = '\0';
    return text;
}

char *json_string(struct json *json, int object, const char *key, int required)
{
    int value = json_get(json, object, key);
    if (value < 0) {
        if (required)
            fail(json->failure, FAIL_BAD_REQUEST, "%s is missing", key);
        return NULL;
    }
    return json_text(json, value, key);
}

char **json_strings(struct json *json, int object, const char *key, size_t *count)
{
    int array = json_array(json, object, key, count);
    char **strings = arena_array(json->arena, *count + 1, sizeof *strings);
    if (array < 0)
        return strings;
    int value = json_first(json, array);
    for (size_t i = 0; i < *count; i++, value = json_after(json, value))
        strings[i] = json_text(json, value, key);
    return strings;
}

bool json_bool(struct json *json, int object, const char *key, bool absent)
{
    int value = json_get(json, object, key);
    if (value < 0)
        return absent;
    const jsmntok_t *t = token(json, value);
    char c = json->text[t->start];
    if (t->type != JSMN_PRIMITIVE || (c != 't' && c != 'f')) {
        fail(json->failure, FAIL_BAD_REQUEST, "%s must be true or false", key);
        return false;
    }
    return c == 't';
}

int64_t json_int_value(struct json *json, int value, const char *what, int64_t min, int64_t max)
{
    if (value < 0 || json->failure->code)
        return 0;
    const jsmntok_t *t = token(json, value);
    const char *in = json->text + t->start, *end = json->text + t->end;
    bool negative = in < end && *in == '-';
    in += negative;
    bool valid = t->type == JSMN_PRIMITIVE && in < end && end - in < 19;
    int64_t number = 0;
    for (; valid && in < end; in++) {
        valid = *in >= '0' && *in <= '9';
        number = number * 10 + (*in - '0');
    }
    number = negative ? -number : number;
    if (!valid || number < min || number > max) {
        fail(json->failure, FAIL_BAD_REQUEST, "%s must be an integer of %lld to %lld", what,
             (long long)min, (long long)max);
        return 0;
    }
    return number;
}

int64_t json_int(struct json *json, int object, const char *key, int64_t min, int64_t max,
                 int64_t absent)
{
    int value = json_get(json, object, key);
    return value < 0 ? absent : json_int_value(json, value, key, min, max);
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int64_t base64_decode(const char *text, size_t size, uint8_t *out)
{
    if (size % 4)
        return -1;
    size_t padding = 0;
    while (padding < 2 && padding < size && text[size - 1 - padding] == '=')
        padding++;
    int64_t length = 0;
    for (size_t i = 0; i < size; i += 4) {
        size_t digits = i + 4 == size ? 4 - padding : 4;
        uint32_t word = 0;
        for (size_t j = 0; j < 4; j++) {
            int digit = j < digits ? base64_digit(text[i + j]) : 0;
            if (digit < 0)
                return -1;
            word = word << 6 | (uint32_t)digit;
        }
        for (size_t j = 0; j + 1 < digits; j++)
            out[length++] = (uint8_t)(word >> (16 - 8 * j));
    }
    return length;
}
