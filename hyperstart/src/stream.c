#include "stream.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "channel.h"
#include "failure.h"
#include "flow.h"
#include "loop.h"

#define OUT_LIMIT (128u << 10)              /* data waiting for the port */
#define CHUNK (32768 - STREAM_HEADER)       /* a frame is one write to virtio-serial */
#define ROUNDS 8                            /* of all streams, before the loop looks around */
#define TERMINAL_REST (1u << 20)            /* of a process that is over */

struct stream {
    struct source out; /* first: a source is its stream; a terminal's both directions */
    struct source in;
    struct stream *next;
    uint32_t id;
    bool terminal;
    /* guest to host */
    bool readable, end_of_output, end_sent, discard;
    struct send_window window;
    /* host to guest */
    bool writable, end_of_input, input_closed;
    struct receive_buffer input;
    /* the process is over */
    bool finished;
    uint32_t rest; /* bytes still to be sent after that */
};

static struct source port;
static bool port_readable, port_writable;
static struct line_window port_window;
static struct buffer out_queue;
static SELDOM struct stream_decoder decoder;
static struct stream *streams;

static void port_ready(struct source *source, uint32_t events)
{
    (void)source;
    port_readable |= (events & EPOLLIN) != 0;
    port_writable |= (events & EPOLLOUT) != 0;
}

void streams_init(int fd, bool line)
{
    port_window.bounded = line;
    port.ready = port_ready;
    port_readable = port_writable = true;
    loop_add(&port, fd, EPOLLIN | EPOLLOUT | EPOLLET);
}

static struct stream *find_stream(uint32_t id)
{
    struct stream *stream = streams;
    while (stream && stream->id != id)
        stream = stream->next;
    return stream;
}

bool stream_exists(uint32_t id)
{
    return find_stream(id) != NULL;
}

static void out_ready(struct source *source, uint32_t events)
{
    struct stream *stream = (struct stream *)(void *)source;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        stream->readable = true;
    if (stream->terminal && events & EPOLLOUT)
        stream->writable = true;
}

static void in_ready(struct source *source, uint32_t events)
{
    struct stream *stream = (struct stream *)(void *)((char *)source - offsetof(struct stream, in));
    (void)events;
    stream->writable = true;
}

struct stream *stream_open(uint32_t id, int out, int in, bool terminal)
{
    struct stream *stream = allocate(sizeof *stream);
    stream->id = id;
    stream->terminal = terminal;
    stream->discard = id == 0;
    stream->end_sent = id == 0;
    send_window_init(&stream->window);
    stream->out.ready = out_ready;
    stream->in.ready = in_ready;
    stream->out.fd = stream->in.fd = -1;
    stream->readable = stream->writable = true;
    stream->input_closed = in < 0;
    if (out >= 0)
        loop_add(&stream->out, out, EPOLLIN | EPOLLET | (terminal ? EPOLLOUT : 0));
    if (in >= 0 && !terminal)
        loop_add(&stream->in, in, EPOLLOUT | EPOLLET);
    stream->next = streams;
    streams = stream;
    return stream;
}

static void close_input(struct stream *stream)
{
    loop_remove(&stream->in);
    stream->input_closed = true;
    receive_discard(&stream->input);
}

void stream_finish(struct stream *stream)
{
    int rest = 0;
    close_input(stream);
    stream->finished = true;
    if (stream->terminal)
        rest = TERMINAL_REST;
    else if (stream->out.fd >= 0)
        ioctl(stream->out.fd, FIONREAD, &rest);
    stream->rest = rest > 0 ? (uint32_t)rest : 0;
    stream->readable = true;
}

void stream_abandon(struct stream *stream)
{
    close_input(stream);
    loop_remove(&stream->out);
    stream->finished = stream->end_sent = true;
}

static void forget_stream(struct stream *stream)
{
    close_input(stream);
    loop_remove(&stream->out);
    receive_free(&stream->input);
    loop_free(stream);
}

/* -- host to guest */

static void end_terminal_input(struct stream *stream)
{
    struct termios settings;
    unsigned char end = 4; /* ^D */
    if (!tcgetattr(stream->out.fd, &settings) && settings.c_cc[VEOF])
        end = settings.c_cc[VEOF];
    if (write(stream->out.fd, &end, 1) == 1 || errno != EAGAIN)
        stream->input_closed = true;
    else
        stream->writable = false;
}

static void write_input(struct stream *stream)
{
    int fd = stream->terminal ? stream->out.fd : stream->in.fd;
    size_t size;
    const uint8_t *data;
    if (stream->input_closed || fd < 0) {
        receive_discard(&stream->input);
        return;
    }
    while (stream->writable && (data = receive_peek(&stream->input, &size), size > 0)) {
        ssize_t written = write(fd, data, size);
        if (written > 0) {
            receive_pass_on(&stream->input, (size_t)written);
        } else if (written < 0 && errno == EINTR) {
            continue;
        } else if (written == 0 || errno == EAGAIN) {
            stream->writable = false;
        } else if (stream->terminal && errno == EIO) {
            receive_discard(&stream->input); /* no one has the terminal open just now */
        } else {
            close_input(stream); /* EPIPE: the process reads no more */
            return;
        }
    }
    if (stream->end_of_input && !stream->input.length && stream->writable) {
        if (stream->terminal)
            end_terminal_input(stream);
        else
            close_input(stream);
    }
}

static void handle_frame(void)
{
    struct stream *stream = find_stream(decoder.stream);
    if (!stream)
        return;
    if (decoder.window) {
        if (!send_window_grant(&stream->window, decoder.count))
            die("stream %u: more granted than a window can hold", stream->id);
    } else if (decoder.length == 0) {
        stream->end_of_input = true;
    } else {
        if (!receive_put(&stream->input, decoder.data, decoder.length))
            die("stream %u: more data than was granted", stream->id);
        if (stream->end_of_input)
            receive_discard(&stream->input);
    }
    write_input(stream);
}

static bool read_port(void)
{
    for (int frames = 0; port_readable && frames < 64;) {
        size_t size;
        uint8_t *where = stream_want(&decoder, &size);
        ssize_t got = read(port.fd, where, size);
        if (got <= 0) { /* 0: the host has not opened its side */
            if (got == 0 || errno != EINTR)
                port_readable = false;
            continue;
        }
        uint32_t count = line_take_grant(&port_window, (size_t)got);
        if (count)
            stream_put_window(&out_queue, 0, count);
        enum frame_status status = stream_advance(&decoder, (size_t)got);
        if (status == FRAME_VIOLATION)
            die("malformed frame on the stream channel");
        if (status == FRAME_COMPLETE) {
            frames++;
            handle_frame();
            stream_next(&decoder);
        }
    }
    return port_readable;
}

/* -- guest to host */

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
}

/* After the end was sent another process may still write: let it. */
static void discard_output(struct stream *stream)
{
    static SELDOM char waste[65536];
    while (stream->readable && stream->out.fd >= 0) {
        ssize_t got = read(stream->out.fd, waste, sizeof waste);
        if (got > 0)
            return; /* again in the next round */
        if (got < 0 && errno == EINTR)
            continue;
        stream->readable = false;
        if (got == 0)
            loop_remove(&stream->out);
    }
}

/* One frame of the stream's output. Returns whether there may be more. */
static bool read_output(struct stream *stream)
{
    size_t size = stream->window.left < CHUNK ? stream->window.left : CHUNK;
    if (stream->finished && stream->rest < size)
        size = stream->rest;
    if (!size)
        return false;
    uint8_t *frame = buffer_reserve(&out_queue, STREAM_HEADER + CHUNK);
    ssize_t got = read(stream->out.fd, frame + STREAM_HEADER, size);
    if (got > 0) {
        stream_put_header(frame, stream->id, (uint32_t)got);
        out_queue.end += STREAM_HEADER + (size_t)got;
        stream->window.left -= (uint32_t)got;
        if (stream->finished)
            stream->rest -= (uint32_t)got;
        return true;
    }
    if (got < 0 && errno == EINTR)
        return true;
    stream->readable = false;
    /* EIO: nobody has the terminal open, which is no end while its process lives. */
    if (got == 0 || (errno != EAGAIN && !stream->terminal))
        stream->end_of_output = true;
    if (stream->finished)
        stream->rest = 0;
    return false;
}

static bool pump_output(struct stream *stream)
{
    bool more = false;
    if (stream->discard) {
        discard_output(stream);
        return stream->readable && stream->out.fd >= 0;
    }
    if (stream->readable && stream->out.fd >= 0 && !stream->end_of_output)
        more = read_output(stream);
    if (stream->finished && !stream->rest)
        stream->end_of_output = true;
    if (stream->end_of_output && !stream->end_sent) {
        uint8_t frame[STREAM_HEADER];
        stream_put_header(frame, stream->id, 0);
        buffer_append(&out_queue, frame, sizeof frame);
        stream->end_sent = true;
        if (!stream->finished && !stream->terminal) /* closed by the process itself */
            loop_remove(&stream->out);
        stream->discard = true;
        more = false;
    }
    return more;
}

static void put_grant(struct stream *stream)
{
    uint32_t count = stream->end_of_input || stream->finished
                         ? 0
                         : receive_take_grant(&stream->input);
    if (count)
        stream_put_window(&out_queue, stream->id, count);
}

/* A terminal goes with its process, which hangs up those that still hold it. */
static bool is_over(const struct stream *stream)
{
    return stream->finished && stream->end_sent && (stream->terminal || stream->out.fd < 0);
}

static void reap_streams(void)
{
    for (struct stream **link = &streams; *link;) {
        struct stream *stream = *link;
        if (is_over(stream)) {
            *link = stream->next;
            forget_stream(stream);
        } else {
            link = &stream->next;
        }
    }
}

/* The stream that was not served comes first the next time. */
static void rotate_to(struct stream *first)
{
    struct stream **link = &streams, *last;
    while (*link != first)
        link = &(*link)->next;
    if (first == streams)
        return;
    for (last = first; last->next; last = last->next)
        continue;
    last->next = streams;
    *link = NULL;
    streams = first;
}

/* A frame of each stream that has one. True if there may be more to send. */
static bool serve_streams(void)
{
    bool more = false;
    for (struct stream *stream = streams; stream; stream = stream->next) {
        if (buffer_length(&out_queue) >= OUT_LIMIT) {
            rotate_to(stream);
            return true;
        }
        put_grant(stream);
        more |= pump_output(stream);
    }
    return more;
}

bool streams_pump(void)
{
    bool more = read_port();
    for (struct stream *stream = streams; stream; stream = stream->next)
        write_input(stream);
    bool unsent = true;
    for (int round = 0; round < ROUNDS && unsent; round++) {
        unsent = serve_streams();
        flush_port();
        if (!port_writable && buffer_length(&out_queue) >= OUT_LIMIT)
            break; /* EPOLLOUT will tell */
    }
    reap_streams();
    return more || (unsent && (port_writable || buffer_length(&out_queue) < OUT_LIMIT));
}
