#include "memory.h"
#include "test.h"

static bool all_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

/* What one request left must not be seen by the next, whose fields default to zero. */
TEST(memory_of_a_former_arena_is_zeroed)
{
    for (int round = 0; round < 3; round++) {
        struct arena arena = {0};
        uint8_t *small = arena_alloc(&arena, 4000), *other = arena_alloc(&arena, 4000);
        uint8_t *next = arena_alloc(&arena, 4000), *large = arena_alloc(&arena, 20000);
        CHECK(all_zero(small, 4000) && all_zero(other, 4000));
        CHECK(all_zero(next, 4000) && all_zero(large, 20000));
        memset(small, 1, 4000);
        memset(other, 2, 4000);
        memset(next, 3, 4000);
        memset(large, 4, 20000);
        arena_free(&arena);
    }
}

TEST(two_arenas_share_no_memory)
{
    struct arena first = {0}, second = {0};
    arena_alloc(&first, 100);
    arena_free(&first);
    uint8_t *one = arena_alloc(&first, 100), *two = arena_alloc(&second, 100);
    memset(one, 1, 100);
    CHECK(all_zero(two, 100));
    arena_free(&first);
    arena_free(&second);
}
