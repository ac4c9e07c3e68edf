/** Numbers of signals (asm-generic/signal.h). */

export const SIGKILL = 9;
