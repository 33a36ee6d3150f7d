/* The event loop: one thread, epoll, nothing that blocks. */
#ifndef HYPER_LOOP_H
#define HYPER_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct source {
    int fd; /* -1: not watched */
    void (*ready)(struct source *source, uint32_t events);
};

void loop_init(void);
/* Watch `fd`; the source must stay in memory until loop_remove and loop_free. */
void loop_add(struct source *source, int fd, uint32_t events);
void loop_remove(struct source *source); /* closes the descriptor as well */
void loop_free(void *memory);            /* after the events at hand: they may point to it */
void loop_run_once(int timeout_ms);      /* -1: no bound */

int64_t monotonic_ms(void);

#endif
