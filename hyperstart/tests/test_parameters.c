#include "parameters.h"
#include "test.h"

static const char *of(const char *line, const char *file, size_t size)
{
    static char text[64];
    parameters_of(line, file, text, size);
    return text;
}

TEST(a_module_gets_its_own_parameters)
{
    const char *line = "dummy.numdummies=0 xdummy.a=1 loop.max=4 dummy.b dummy. quiet\n";
    CHECK_TEXT(of(line, "07-dummy.ko", 64), "numdummies=0 b ");
    CHECK_TEXT(of(line, "01-loop.ko", 64), "max=4 ");
    CHECK_TEXT(of(line, "02-overlay.ko", 64), "");
    CHECK_TEXT(of("", "02-overlay.ko", 64), "");
    CHECK_TEXT(of(".x=1", "02-", 64), "");
}

TEST(parameters_without_room_are_left_out)
{
    CHECK_TEXT(of("a.long=123456 a.b=1", "a.ko", 6), "b=1 ");
    CHECK_TEXT(of("a.b=1", "a.ko", 1), "");
}
