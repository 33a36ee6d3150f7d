/* The stream channel: pipes and pseudo-terminals on one side, frames on the
 * port on the other, with a window for each stream and direction. */
#ifndef HYPER_STREAM_H
#define HYPER_STREAM_H

#include <stdbool.h>
#include <stdint.h>

struct stream;

/* Takes the descriptor of the port; `line`: it is a serial line. */
void streams_init(int port, bool line);
/* Work that events have made possible. True if there is more: don't sleep. */
bool streams_pump(void);

bool stream_exists(uint32_t id);
/* A process' stream: `out` is read by us, `in` is written by us (-1: none; the
 * same descriptor for a terminal). `id` 0 drains and discards. Takes both. */
struct stream *stream_open(uint32_t id, int out, int in, bool terminal);
/* The process is over: send what is left, the end of file, then forget it. */
void stream_finish(struct stream *stream);
/* The process never was: no end of file. */
void stream_abandon(struct stream *stream);

#endif
