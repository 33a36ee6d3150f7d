#include "parameters.h"

#include <string.h>

void parameters_of(const char *command_line, const char *file, char *text, size_t size)
{
    const char *name = file + strspn(file, "0123456789-");
    size_t length = strcspn(name, "."), used = 0;
    for (const char *word = command_line; *word;) {
        size_t end = strcspn(word, " \n");
        if (length && end > length + 1 && !strncmp(word, name, length) && word[length] == '.') {
            size_t count = end - length - 1;
            if (used + count + 2 <= size) {
                memcpy(text + used, word + length + 1, count);
                used += count;
                text[used++] = ' ';
            }
        }
        word += end + strspn(word + end, " \n");
    }
    text[used] = '\0';
}
