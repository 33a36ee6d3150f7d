#include "io.h"
#include "machine.h"

#define COM1 0x3f8
#define LINE_STATUS (COM1 + 5)
#define CAN_SEND 0x20

void console_init(void)
{
    out8(COM1 + 1, 0);    /* no interrupts */
    out8(COM1 + 3, 0x80); /* the divisor: 115200 baud */
    out8(COM1 + 0, 1);
    out8(COM1 + 1, 0);
    out8(COM1 + 3, 3); /* 8 bits, no parity */
}

static void say(const char *text)
{
    for (; *text; text++) {
        for (unsigned tries = 0; !(in8(LINE_STATUS) & CAN_SEND) && tries < 100000; tries++)
            continue;
        out8(COM1, (uint8_t)*text);
    }
}

void fail(const char *what, const char *trouble)
{
    say("firmware: ");
    say(what);
    say(": ");
    say(trouble);
    say("\r\n");
    end_machine();
}
