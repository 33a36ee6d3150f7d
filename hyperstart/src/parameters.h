/* What the kernel's command line says for modules, as modprobe would tell them. Pure. */
#ifndef HYPER_PARAMETERS_H
#define HYPER_PARAMETERS_H

#include <stddef.h>

/* The `NAME.PARAMETER=VALUE` words of the command line that are for the module of a file
 * (`03-NAME.ko`), as `PARAMETER=VALUE ...` in `text`; what has no room is left out. */
void parameters_of(const char *command_line, const char *file, char *text, size_t size);

#endif
