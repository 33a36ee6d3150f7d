#include "flow.h"
#include "test.h"

TEST(send_window_counts)
{
    struct send_window window;
    send_window_init(&window);
    CHECK(window.left == 65536);
    window.left -= 65536;
    CHECK(send_window_grant(&window, 100) && window.left == 100);
    CHECK(!send_window_grant(&window, 0xffffffff));
    CHECK(!send_window_grant(&window, INT32_MAX));
    CHECK(window.left == 100);
}

TEST(receiver_takes_a_window_and_no_more)
{
    struct receive_buffer buffer = {0};
    static uint8_t data[FLOW_WINDOW + 1];
    CHECK(!receive_put(&buffer, data, FLOW_WINDOW + 1));
    CHECK(receive_put(&buffer, data, FLOW_WINDOW));
    CHECK(!receive_put(&buffer, data, 1));
    receive_pass_on(&buffer, 10);
    CHECK(!receive_put(&buffer, data, 1)); /* passed on, but not granted yet */
    CHECK(receive_take_grant(&buffer) == 0);
    receive_pass_on(&buffer, FLOW_GRANT_STEP);
    CHECK(receive_take_grant(&buffer) == FLOW_GRANT_STEP + 10);
    CHECK(receive_put(&buffer, data, FLOW_GRANT_STEP + 10));
    CHECK(!receive_put(&buffer, data, 1));
    receive_free(&buffer);
}

TEST(receiver_keeps_the_order_over_the_edge)
{
    struct receive_buffer buffer = {0};
    uint8_t next_in = 0, next_out = 0, data[10007];
    bool same = true;
    for (int round = 0; round < 100; round++) {
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = next_in++;
        CHECK(receive_put(&buffer, data, sizeof data));
        size_t size;
        const uint8_t *at;
        while (at = receive_peek(&buffer, &size), size > 0) {
            size = size > 4000 ? 4000 : size;
            for (size_t i = 0; i < size; i++)
                same &= at[i] == next_out++;
            receive_pass_on(&buffer, size);
        }
        receive_take_grant(&buffer);
    }
    CHECK(same && next_in == next_out);
    receive_free(&buffer);
}

TEST(discarded_input_is_granted_again)
{
    struct receive_buffer buffer = {0};
    static uint8_t data[FLOW_WINDOW];
    receive_put(&buffer, data, FLOW_WINDOW);
    receive_discard(&buffer);
    CHECK(receive_take_grant(&buffer) == FLOW_WINDOW);
    receive_free(&buffer);
}

TEST(what_a_line_brought_is_granted_in_halves_of_its_window)
{
    struct line_window window = {.bounded = true};
    CHECK(line_take_grant(&window, LINE_WINDOW / 2 - 1) == 0);
    CHECK(line_take_grant(&window, 1) == LINE_WINDOW / 2);
    CHECK(line_take_grant(&window, 1) == 0);
    CHECK(line_take_grant(&window, LINE_WINDOW - 1) == LINE_WINDOW);
    window.bounded = false;
    CHECK(line_take_grant(&window, LINE_WINDOW) == 0);
}
