#include <stdlib.h>

#include "channel.h"
#include "test.h"

/* Feed `size` bytes in pieces of at most `piece`; the last status. */
static enum frame_status feed_ctl(struct ctl_decoder *decoder, const void *data, size_t size,
                                  size_t piece)
{
    const uint8_t *bytes = data;
    enum frame_status status = FRAME_MORE;
    while (size && status == FRAME_MORE) {
        size_t room;
        uint8_t *where = ctl_want(decoder, &room);
        size_t count = size < piece ? size : piece;
        count = count < room ? count : room;
        memcpy(where, bytes, count);
        bytes += count;
        size -= count;
        status = ctl_advance(decoder, count);
    }
    return status;
}

static enum frame_status feed_stream(struct stream_decoder *decoder, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    enum frame_status status = FRAME_MORE;
    while (size && status == FRAME_MORE) {
        size_t room;
        uint8_t *where = stream_want(decoder, &room);
        size_t count = size < room ? size : room;
        memcpy(where, bytes, count);
        bytes += count;
        size -= count;
        status = stream_advance(decoder, count);
    }
    return status;
}

TEST(ctl_messages_survive_any_cut)
{
    struct buffer out = {0};
    ctl_encode(&out, 17, "{\"seq\":1}", 9);
    CHECK(buffer_length(&out) == 17);
    for (size_t piece = 1; piece <= 17; piece++) {
        struct ctl_decoder decoder = {0};
        CHECK(feed_ctl(&decoder, out.data, 17, piece) == FRAME_COMPLETE);
        CHECK(decoder.code == 17 && decoder.length == 9);
        CHECK_TEXT(decoder.body, "{\"seq\":1}");
        ctl_next(&decoder);
    }
    buffer_free(&out);
}

TEST(ctl_empty_body_is_complete_at_the_header)
{
    struct ctl_decoder decoder = {0};
    CHECK(feed_ctl(&decoder, "\0\0\0\x0c\0\0\0\x08", 8, 8) == FRAME_COMPLETE);
    CHECK(decoder.code == 12 && decoder.length == 0);
    ctl_next(&decoder);
}

TEST(ctl_lengths_out_of_bounds_are_violations)
{
    static const char headers[][9] = {
        "\0\0\0\x0c\0\0\0\x07", "\0\0\0\x0c\0\0\0\0", "\0\0\0\x0c\0\x40\0\x01",
        "\0\0\0\x0c\xff\xff\xff\xff",
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct ctl_decoder decoder = {0};
        CHECK(feed_ctl(&decoder, headers[i], 8, 8) == FRAME_VIOLATION);
        ctl_next(&decoder);
    }
    struct ctl_decoder decoder = {0};
    CHECK(feed_ctl(&decoder, "\0\0\0\x0c\0\x40\0\0", 8, 8) == FRAME_MORE); /* 4 MiB: just so */
    ctl_next(&decoder);
}

TEST(stream_data_and_end_of_file)
{
    static struct stream_decoder decoder;
    CHECK(feed_stream(&decoder, "\0\0\0\0\0\0\0\x05\0\0\0\x03" "abc", 15) == FRAME_COMPLETE);
    CHECK(decoder.stream == 5 && !decoder.window && decoder.length == 3);
    CHECK(!memcmp(decoder.data, "abc", 3));
    stream_next(&decoder);
    CHECK(feed_stream(&decoder, "\0\0\0\0\0\0\0\x05\0\0\0\0", 12) == FRAME_COMPLETE);
    CHECK(decoder.length == 0);
    stream_next(&decoder);
}

TEST(stream_window_frames)
{
    static struct stream_decoder decoder;
    struct buffer out = {0};
    stream_put_window(&out, 7, 0x12345);
    CHECK(buffer_length(&out) == STREAM_HEADER + 4);
    CHECK(feed_stream(&decoder, out.data, buffer_length(&out)) == FRAME_COMPLETE);
    CHECK(decoder.window && decoder.stream == 7 && decoder.count == 0x12345);
    stream_next(&decoder);
    buffer_free(&out);
}

TEST(stream_violations)
{
    static const char headers[][13] = {
        "\0\0\0\0\0\0\0\0\0\0\0\x01",             /* stream 0 */
        "\0\0\0\0\x80\0\0\0\0\0\0\x01",           /* stream 2^31 */
        "\0\0\0\x01\0\0\0\x01\0\0\0\x01",         /* bits between */
        "\x40\0\0\0\0\0\0\x01\0\0\0\x01",         /* an unknown flag */
        "\0\0\0\0\0\0\0\x01\0\x01\0\x01",         /* more than 65536 bytes */
        "\x80\0\0\0\0\0\0\x01\0\0\0\x05",         /* a window of 5 bytes */
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        static struct stream_decoder decoder;
        memset(&decoder, 0, sizeof decoder);
        CHECK(feed_stream(&decoder, headers[i], 12) == FRAME_VIOLATION);
    }
}

TEST(json_strings_are_escaped)
{
    struct buffer out = {0};
    const char text[] = "a\"\\\n\x7f\xc3\xa4\xff\xed\xa0\x80\xf0\x9f\x98\x80";
    buffer_json_string(&out, text, sizeof text - 1);
    buffer_append(&out, "", 1);
    CHECK_TEXT((char *)out.data, "\"a\\u0022\\u005c\\u000a\\u007f\xc3\xa4\\udcff\\udced\\udca0"
                                 "\\udc80\xf0\x9f\x98\x80\"");
    buffer_free(&out);
}

TEST(buffers_grow_and_shrink)
{
    struct buffer buffer = {0};
    for (int i = 0; i < 1000; i++) {
        buffer_printf(&buffer, "%04d", i);
        if (i % 3 == 2)
            buffer_consume(&buffer, 8);
    }
    CHECK(buffer_length(&buffer) == 4000 - 333 * 8);
    CHECK(!memcmp(buffer.data + buffer.end - 4, "0999", 4));
    CHECK(!memcmp(buffer.data + buffer.start, "0666", 4));
    buffer_free(&buffer);
}
