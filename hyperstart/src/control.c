#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "channel.h"
#include "dispatch.h"
#include "flow.h"
#include "loop.h"
#include "path.h"
#include "request.h"

#define PROTOCOL 1
#define BACKLOG (1u << 20) /* of answers the host does not read: then no more requests */

static struct source port;
static bool port_readable, port_writable;
static struct ctl_decoder decoder;
static struct line_window port_window;
static struct buffer out_queue;

static void port_ready(struct source *source, uint32_t events)
{
    (void)source;
    port_readable |= (events & EPOLLIN) != 0;
    port_writable |= (events & EPOLLOUT) != 0;
}

static void send_message(uint32_t code, struct buffer *json)
{
    ctl_encode(&out_queue, code, json->data + json->start, buffer_length(json));
    buffer_free(json);
}

static void append_text(struct buffer *json, const char *text)
{
    buffer_json_string(json, text, strlen(text));
}

/* The file systems that this kernel has and a container may need. */
static void append_features(struct buffer *json)
{
    static const char *const names[] = {"overlay", "squashfs", "erofs", "ext4",
                                        "9p",      "virtiofs", "fuse",  "nfs4"};
    char known[4096];
    bool first = true;
    read_file("/proc/filesystems", known, sizeof known);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char line[32];
        snprintf(line, sizeof line, "\t%s\n", names[i]);
        if (!strstr(known, line))
            continue;
        buffer_printf(json, "%s\"%s\"", first ? "" : ",", names[i]);
        first = false;
    }
}

static void send_ready(void)
{
    struct buffer json = {0};
    struct utsname name;
    uname(&name);
    buffer_printf(&json, "{\"protocol\":%d,\"version\":\"%s\",\"kernel\":", PROTOCOL,
                  HYPER_VERSION);
    append_text(&json, name.release);
    buffer_printf(&json, ",\"features\":[");
    append_features(&json);
    buffer_printf(&json, "]");
    if (port_window.bounded)
        buffer_printf(&json, ",\"window\":%u", LINE_WINDOW);
    buffer_printf(&json, "}");
    send_message(READY, &json);
}

void control_init(int fd, bool line)
{
    port_window.bounded = line;
    port.ready = port_ready;
    port_readable = port_writable = true;
    loop_add(&port, fd, EPOLLIN | EPOLLOUT | EPOLLET);
    send_ready();
}

void control_ack(uint64_t seq, const char *members)
{
    struct buffer json = {0};
    buffer_printf(&json, "{\"seq\":%llu%s}", (unsigned long long)seq, members);
    send_message(ACK, &json);
}

void control_ack_buffer(uint64_t seq, const struct buffer *members)
{
    struct buffer json = {0};
    buffer_printf(&json, "{\"seq\":%llu", (unsigned long long)seq);
    buffer_append(&json, members->data + members->start, buffer_length(members));
    buffer_append(&json, "}", 1);
    send_message(ACK, &json);
}

void control_ack_pid(uint64_t seq, int pid)
{
    char members[32];
    snprintf(members, sizeof members, ",\"pid\":%d", pid);
    control_ack(seq, members);
}

void control_error(uint64_t seq, const struct failure *failure)
{
    struct buffer json = {0};
    buffer_printf(&json, "{\"seq\":%llu,\"code\":%d,\"message\":", (unsigned long long)seq,
                  failure->code);
    append_text(&json, failure->text);
    buffer_printf(&json, "}");
    send_message(ERROR, &json);
}

void control_finished(const char *container, const char *process, int code, int signal, bool oom)
{
    struct buffer json = {0};
    buffer_printf(&json, "{\"container\":\"%s\",\"process\":\"%s\",\"event\":\"finished\","
                  "\"code\":%d,\"signal\":%d,\"oom\":%s}",
                  container, process, code, signal, oom ? "true" : "false");
    send_message(PROCESSEVENT, &json);
}

static void grant_line(size_t got)
{
    uint32_t count = line_take_grant(&port_window, got);
    struct buffer json = {0};
    if (!count)
        return;
    buffer_printf(&json, "{\"count\":%u}", count);
    send_message(LINEGRANT, &json);
}

static void handle_message(void)
{
    struct request request;
    struct failure failure;
    int result = request_decode(&request, decoder.code, decoder.body, decoder.length, &failure);
    if (!request.seq)
        die("control message %u: %s", decoder.code, failure.text);
    if (result < 0)
        control_error(request.seq, &failure);
    else
        dispatch(&request);
    request_free(&request);
}

static void flush_port(void)
{
    while (port_writable && buffer_length(&out_queue)) {
        ssize_t written = write(port.fd, out_queue.data + out_queue.start,
                                buffer_length(&out_queue));
        if (written > 0)
            buffer_consume(&out_queue, (size_t)written);
        else if (written == 0 || errno != EINTR)
            port_writable = false;
    }
    if (!buffer_length(&out_queue) && out_queue.capacity > BACKLOG)
        buffer_free(&out_queue);
}

bool control_pump(void)
{
    int messages = 0;
    while (port_readable && messages < 16 && buffer_length(&out_queue) < BACKLOG) {
        size_t size;
        uint8_t *where = ctl_want(&decoder, &size);
        ssize_t got = read(port.fd, where, size);
        if (got <= 0) { /* 0: the host has not opened its side */
            if (got == 0 || errno != EINTR)
                port_readable = false;
            continue;
        }
        grant_line((size_t)got);
        enum frame_status status = ctl_advance(&decoder, (size_t)got);
        if (status == FRAME_VIOLATION)
            die("malformed message on the control channel");
        if (status == FRAME_COMPLETE) {
            handle_message();
            ctl_next(&decoder);
            messages++;
        }
    }
    flush_port();
    return port_readable && buffer_length(&out_queue) < BACKLOG;
}

bool control_is_flushed(void)
{
    return !buffer_length(&out_queue);
}
