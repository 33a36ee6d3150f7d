/* The end of the VM. */
#ifndef HYPER_POWER_H
#define HYPER_POWER_H

#include <stdint.h>

_Noreturn void power_off(void);          /* sync, then reboot: QEMU runs with -no-reboot */
void power_down(uint64_t seq);           /* DESTROYPOD: begins; power_tick goes on */
int power_tick(void);                    /* the longest to sleep in ms, -1: no bound */

#endif
