/*
 * Stands for libcapstone, which QEMU is linked to and calls only to print code that it translates.
 *
 * Its 77,000 relocations leave 1.3 MB that no other process shares. QEMU goes on
 * without when it can't be opened.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
/* cs_err of capstone 4 (capstone.h): unsupported architecture, invalid handle. */
#define UNSUPPORTED 2
#define NO_HANDLE 4

int cs_open(int architecture, int mode, size_t *handle);
int cs_close(size_t *handle);
int cs_option(size_t handle, int type, size_t value);
void *cs_malloc(size_t handle);
bool cs_disasm_iter(size_t handle, const uint8_t **code, size_t *size, uint64_t *address, void *to);

EXPORT int cs_open(int architecture, int mode, size_t *handle)
{
    (void)architecture, (void)mode;
    *handle = 0;
    return UNSUPPORTED;
}

EXPORT int cs_close(size_t *handle)
{
    (void)handle;
    return NO_HANDLE;
}

EXPORT int cs_option(size_t handle, int type, size_t value)
{
    (void)handle, (void)type, (void)value;
    return NO_HANDLE;
}

EXPORT void *cs_malloc(size_t handle)
{
    (void)handle;
    return NULL;
}

EXPORT bool cs_disasm_iter(size_t handle, const uint8_t **code, size_t *size, uint64_t *address,
                           void *to)
{
    (void)handle, (void)code, (void)size, (void)address, (void)to;
    return false;
}
