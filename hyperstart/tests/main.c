#include "test.h"

#include <stdarg.h>
#include <stdlib.h>

#include "failure.h"

static struct test *tests, **last = &tests;
static bool current_failed;

void test_register(struct test *test)
{
    *last = test;
    last = &test->next;
}

void test_failed(const char *file, int line, const char *what)
{
    printf("# %s:%d: %s\n", file, line, what);
    current_failed = true;
}

void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    abort();
}

int main(void)
{
    int passed = 0, failed = 0;
    for (struct test *test = tests; test; test = test->next) {
        current_failed = false;
        test->run();
        printf("%s %d - %s\n", current_failed ? "not ok" : "ok", passed + failed + 1, test->name);
        *(current_failed ? &failed : &passed) += 1;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
