/* What the C around a lone heap shares. */

#ifndef LONE_HEAP_H
#define LONE_HEAP_H

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#define LONE_TEXT_LENGTH 65536

extern jmp_buf lone_panicked;          /* where a panic goes */
extern char lone_text[LONE_TEXT_LENGTH]; /* what was printed, or the panic */

void lone_forget_text(void);

#endif
