#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "failure.h"
#include "memory.h"

#define EVENTS 64

static int epoll_fd = -1;
static void **doomed;
static size_t doomed_count, doomed_capacity;

void loop_init(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die("epoll_create1: %s", strerror(errno));
}

void loop_add(struct source *source, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    source->fd = fd;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* Children hold copies of the descriptor for a moment, so closing it would not
 * take it out of the epoll set: it is deleted explicitly. */
void loop_remove(struct source *source)
{
    if (source->fd < 0)
        return;
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    close(source->fd);
    source->fd = -1;
}

void loop_free(void *memory)
{
    if (doomed_count == doomed_capacity) {
        doomed_capacity = doomed_capacity ? doomed_capacity * 2 : 64;
        doomed = realloc(doomed, doomed_capacity * sizeof *doomed);
        if (!doomed)
            die("out of memory");
    }
    doomed[doomed_count++] = memory;
}

void loop_run_once(int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll_fd, events, EVENTS, timeout_ms);
    if (count < 0 && errno != EINTR)
        die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        struct source *source = events[i].data.ptr;
        if (source->fd >= 0)
            source->ready(source, events[i].events);
    }
    while (doomed_count)
        free(doomed[--doomed_count]);
}

int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
