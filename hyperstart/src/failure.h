/* Why something could not be done: the `code` and `message` of a protocol ERROR. */
#ifndef HYPER_FAILURE_H
#define HYPER_FAILURE_H

enum failure_code {
    FAIL_NO_SUCH = 3,        /* no such container or process */
    FAIL_EXISTS = 17,
    FAIL_BAD_REQUEST = 22,
    FAIL_UNKNOWN_CODE = 38,
    FAIL_SETUP = 125,
    FAIL_NOT_EXECUTABLE = 126,
    FAIL_NOT_FOUND = 127,
};

struct failure {
    int code; /* 0: nothing failed */
    char text[512];
};

/* Both record the failure and return -1. The first failure wins. */
int fail(struct failure *failure, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* FAIL_SETUP with ": " and the text of errno at the end. */
int fail_errno(struct failure *failure, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* strerror() as runc words it: lower case. */
const char *error_text(int number);

/* The end of the VM (power.c) or of a test program: something that can't be lived with. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
