/* The control channel: requests in, answers and events out. */
#ifndef HYPER_CONTROL_H
#define HYPER_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "failure.h"
#include "memory.h"

/* Takes the descriptor; sends READY. `line`: it is a serial line. */
void control_init(int port, bool line);
/* Work that events have made possible. True if there is more: don't sleep. */
bool control_pump(void);
bool control_is_flushed(void);

/* `members` is "" or more members of the object, beginning with a comma. */
void control_ack(uint64_t seq, const char *members);
void control_ack_buffer(uint64_t seq, const struct buffer *members);
void control_ack_pid(uint64_t seq, int pid);
void control_error(uint64_t seq, const struct failure *failure);
void control_finished(const char *container, const char *process, int code, int signal, bool oom);

#endif
