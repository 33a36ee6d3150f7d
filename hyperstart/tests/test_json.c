#include "json.h"
#include "test.h"

static struct arena arena;
static struct failure failure;
static struct json json;

static int parse(const char *text)
{
    arena_free(&arena);
    memset(&failure, 0, sizeof failure);
    json = (struct json){.arena = &arena, .failure = &failure};
    return json_parse(&json, text, strlen(text));
}

TEST(json_values)
{
    CHECK(parse("{\"a\":{\"b\":[1,{\"c\":2},3]},\"d\":\"x\",\"e\":true,\"f\":null,\"g\":-5}") == 0);
    int a = json_object(&json, 0, "a");
    size_t count;
    int b = json_array(&json, a, "b", &count);
    CHECK(a > 0 && b > 0 && count == 3);
    int item = json_first(&json, b);
    CHECK(json_int_value(&json, item, "b", 0, 9) == 1);
    item = json_after(&json, item);
    CHECK(json_int(&json, item, "c", 0, 9, 0) == 2);
    item = json_after(&json, item);
    CHECK(json_int_value(&json, item, "b", 0, 9) == 3);
    CHECK_TEXT(json_string(&json, 0, "d", JSON_REQUIRED), "x");
    CHECK(json_bool(&json, 0, "e", false) && json_bool(&json, 0, "z", true));
    CHECK(json_get(&json, 0, "f") < 0 && json_get(&json, 0, "nothing") < 0);
    CHECK(json_int(&json, 0, "g", -10, 0, 0) == -5);
    CHECK(!failure.code);
    arena_free(&arena);
}

TEST(json_types_are_checked)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"k\":1}", "k must be a string"},
        {"{\"k\":{}}", "k must be a string"},
        {"{\"k\":\"\\u0000\"}", "k has a malformed or NUL character"},
        {"{\"k\":\"\\ud800\"}", "k has a malformed or NUL character"},
        {"{\"k\":\"\\ud800\\u0041\"}", "k has a malformed or NUL character"},
        {"{\"k\":\"\\udc00\"}", "k has a malformed or NUL character"},
        {"{}", "k is missing"},
        {"{\"k\":null}", "k is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK(parse(cases[i].text) == 0);
        CHECK(!json_string(&json, 0, "k", JSON_REQUIRED));
        CHECK_TEXT(failure.text, cases[i].message);
    }
    static const char *const numbers[] = {"{\"k\":1.5}", "{\"k\":true}", "{\"k\":\"1\"}",
                                          "{\"k\":10}",  "{\"k\":-}",    "{\"k\":1e1}",
                                          "{\"k\":99999999999999999999}"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        CHECK(parse(numbers[i]) < 0 || (json_int(&json, 0, "k", 0, 9, 0) == 0 && failure.code));
    arena_free(&arena);
}

TEST(json_strings_are_decoded)
{
    CHECK(parse("{\"k\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\u20ac\\ud83d\\ude00\\udcff\"}") == 0);
    CHECK_TEXT(json_string(&json, 0, "k", JSON_REQUIRED),
               "\"\\/\b\f\n\r\t\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xff");
    arena_free(&arena);
}

TEST(json_malformed_documents)
{
    static const char *const texts[] = {
        "", "[]", "1", "\"x\"", "{", "{\"a\"}", "{\"a\":1", "{\"a\":1 2}", "{\"a\":\"b\":\"c\"}",
        "{1:2}", "{\"a\":[1}", "{}{}", "{\"a\":1}2", "{\"a\":[\"b\":1]}", "nonsense",
        "{\"a\" \"b\"}", "{{}:1}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        bool refused = parse(texts[i]) < 0;
        CHECK(refused);
        if (!refused)
            printf("# accepted: %s\n", texts[i]);
    }
    arena_free(&arena);
}

TEST(json_members_of_values_that_have_none)
{
    CHECK(parse("{\"a\":[\"k\",1,\"k\"],\"b\":\"k\",\"c\":5}") == 0);
    CHECK(json_get(&json, json_get(&json, 0, "a"), "k") < 0);
    CHECK(json_get(&json, json_get(&json, 0, "b"), "k") < 0);
    CHECK(json_get(&json, json_get(&json, 0, "c"), "k") < 0);
    CHECK(json_first(&json, json_get(&json, 0, "b")) < 0);
    arena_free(&arena);
}

TEST(base64)
{
    uint8_t out[16];
    CHECK(base64_decode("", 0, out) == 0);
    CHECK(base64_decode("QUJD", 4, out) == 3 && !memcmp(out, "ABC", 3));
    CHECK(base64_decode("QUI=", 4, out) == 2 && !memcmp(out, "AB", 2));
    CHECK(base64_decode("QQ==", 4, out) == 1 && out[0] == 'A');
    CHECK(base64_decode("+/+/", 4, out) == 3 && out[0] == 0xfb);
    CHECK(base64_decode("QUJ", 3, out) < 0 && base64_decode("Q===", 4, out) < 0);
    CHECK(base64_decode("Q=JD", 4, out) < 0 && base64_decode("QU D", 4, out) < 0);
}
