/* Which devices carry the channels where there is no virtio-serial. Pure. */
#ifndef HYPER_PORTS_H
#define HYPER_PORTS_H

#include <stdbool.h>

#define PORT_NAME 16

enum ports_result { PORTS_MALFORMED = -1, PORTS_NONE = 0, PORTS_NAMED = 1 };

struct ports {
    char control[PORT_NAME], streams[PORT_NAME]; /* below /dev */
    bool lines; /* serial ones, which hold little */
};

/* Of `hyper.ports=CONTROL,STREAMS` in the kernel's command line: serial lines (ttyS0) or consoles of
 * a hypervisor (hvc1), two different ones. */
enum ports_result ports_parse(const char *command_line, struct ports *ports);

#endif
