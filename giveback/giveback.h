#pragma once

/* Returns pages of the machine that hold nothing; no CPU may run meanwhile. */
void drop_empty_pages(void);
