/** The process that reads a file of a pod in our stead, and may be given up (pod-file.ts). */

/** Its hidden command; the arguments are the root and the path. */
export const POD_FILE_READER = "read-pod-file";

/** It says first that it begins, then what came of it. */
export const BEGINS = "\n";
