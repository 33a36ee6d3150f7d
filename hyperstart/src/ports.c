#include "ports.h"

#include <stddef.h>
#include <string.h>

#define KEY "hyper.ports="

#define LINE "ttyS"

static bool is_line(const char *name)
{
    return !strncmp(name, LINE, strlen(LINE));
}

/* Takes a name up to one of `ends`; returns what follows, NULL for what is no such device. */
static const char *take_name(const char *text, char name[PORT_NAME], const char *ends)
{
    size_t prefix = is_line(text) ? strlen(LINE) : !strncmp(text, "hvc", 3) ? 3 : 0;
    size_t digits = strspn(text + prefix, "0123456789"), length = prefix + digits;
    if (!prefix || !digits || digits > 3 || !strchr(ends, text[length]))
        return NULL;
    memcpy(name, text, length);
    name[length] = '\0';
    return text + length;
}

enum ports_result ports_parse(const char *command_line, struct ports *ports)
{
    const char *word = command_line;
    while ((word = strstr(word, KEY)) && word != command_line && word[-1] != ' ')
        word += strlen(KEY);
    if (!word)
        return PORTS_NONE;
    const char *rest = take_name(word + strlen(KEY), ports->control, ",");
    if (!rest || !*rest || !take_name(rest + 1, ports->streams, " \n"))
        return PORTS_MALFORMED;
    ports->lines = is_line(ports->control) || is_line(ports->streams);
    return strcmp(ports->control, ports->streams) ? PORTS_NAMED : PORTS_MALFORMED;
}
