#pragma once

/* Returns pages of the machine's ROMs that hold nothing; no CPU may run meanwhile. */
void drop_empty_rom(void);

/* Returns buffers of disks that there are not; no CPU may run meanwhile. */
void drop_empty_buffers(void);

/* Returns what the translator keeps for the next translation; there may be none, and no CPU run. */
void drop_scratch_memory(void);
