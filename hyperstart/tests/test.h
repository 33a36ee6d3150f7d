/* A small test runner: TEST(name) { CHECK(…); } in any file of this directory. */
#ifndef HYPER_TEST_H
#define HYPER_TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};

void test_register(struct test *test);
void test_failed(const char *file, int line, const char *what);

#define TEST(test_name)                                                            \
    static void test_name(void);                                                   \
    __attribute__((constructor)) static void register_##test_name(void)            \
    {                                                                              \
        static struct test entry = {#test_name, test_name, NULL};                  \
        test_register(&entry);                                                     \
    }                                                                              \
    static void test_name(void)

#define CHECK(condition)                                          \
    do {                                                          \
        if (!(condition))                                         \
            test_failed(__FILE__, __LINE__, #condition);          \
    } while (0)

static inline bool same_text(const char *actual, const char *expected)
{
    return actual && !strcmp(actual, expected);
}

#define CHECK_TEXT(actual, expected) CHECK(same_text((actual), (expected)))

#endif
