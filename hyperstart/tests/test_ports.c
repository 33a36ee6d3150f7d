#include "ports.h"
#include "test.h"

static enum ports_result parse(const char *line, struct ports *ports)
{
    memset(ports, 0, sizeof *ports);
    return ports_parse(line, ports);
}

TEST(ports_are_named_by_the_command_line)
{
    struct ports ports;
    CHECK(parse("quiet hyper.ports=ttyS0,ttyS12 panic=-1\n", &ports) == PORTS_NAMED);
    CHECK_TEXT(ports.control, "ttyS0");
    CHECK_TEXT(ports.streams, "ttyS12");
    CHECK(ports.lines);
    CHECK(parse("hyper.ports=hvc1,hvc2", &ports) == PORTS_NAMED);
    CHECK_TEXT(ports.control, "hvc1");
    CHECK_TEXT(ports.streams, "hvc2");
    CHECK(!ports.lines);
    CHECK(parse("hyper.ports=hvc1,ttyS0", &ports) == PORTS_NAMED && ports.lines);
    CHECK(parse("xhyper.ports=a hyper.ports=ttyS1,ttyS0\n", &ports) == PORTS_NAMED);
    CHECK_TEXT(ports.control, "ttyS1");
}

TEST(without_the_argument_no_port_is_named)
{
    struct ports ports;
    CHECK(parse("", &ports) == PORTS_NONE);
    CHECK(parse("console=ttyS0 nohyper.ports=ttyS0,ttyS1\n", &ports) == PORTS_NONE);
}

TEST(other_values_are_malformed)
{
    static const char *const values[] = {
        "",           "ttyS0",       "ttyS0,",          "ttyS0,ttyS0",  "ttyS,ttyS1", "tty0,tty1",
        "ttyS0 ttyS1", "ttyS0,ttyS1,", "../sda,../sdb", "ttyS0/,ttyS1", "ttyS0000,ttyS1",
        "ttyS0,ttyS11111111111111111111111111",
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct ports ports;
        char line[128];
        snprintf(line, sizeof line, "hyper.ports=%s\n", values[i]);
        CHECK(parse(line, &ports) == PORTS_MALFORMED);
    }
}
