/** Flags with which files are opened (include/uapi/asm-generic/fcntl.h, linux/fcntl.h). */
import { platform } from "#platform";

/** arm64 has numbers of its own for these two (arch/arm64/include/uapi/asm/fcntl.h); the others are the same everywhere. */
const isArm64 = platform.arch === "arm64";
export const O_DIRECTORY = isArm64 ? 0o40000 : 0o200000;
export const O_NOFOLLOW = isArm64 ? 0o100000 : 0o400000;

export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_CLOEXEC = 0o2000000;
/** A FIFO or a terminal is not waited for. */
export const O_NONBLOCK = 0o4000;
export const O_NOCTTY = 0o400;
/** Opens nothing yet: only what it is can be asked. */
export const O_PATH = 0o10000000;

/** A path that does not begin with / begins in the working directory. */
export const AT_FDCWD = -100;
