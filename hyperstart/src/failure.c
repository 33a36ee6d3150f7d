#include "failure.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *error_text(int number)
{
    static char text[128];
    snprintf(text, sizeof text, "%s", strerror(number));
    if (isupper((unsigned char)text[0]) && !isupper((unsigned char)text[1]))
        text[0] = (char)tolower((unsigned char)text[0]);
    return text;
}

int fail(struct failure *failure, int code, const char *format, ...)
{
    if (failure->code)
        return -1;
    failure->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(failure->text, sizeof failure->text, format, args);
    va_end(args);
    return -1;
}

int fail_errno(struct failure *failure, const char *format, ...)
{
    int number = errno;
    if (failure->code)
        return -1;
    failure->code = FAIL_SETUP;
    va_list args;
    va_start(args, format);
    vsnprintf(failure->text, sizeof failure->text, format, args);
    va_end(args);
    size_t used = strlen(failure->text);
    snprintf(failure->text + used, sizeof failure->text - used, ": %s", error_text(number));
    errno = number;
    return -1;
}
