/**
 * The short way of a backend's programs, for who keeps it open; apart from the table of backends, because this brings the
 * code along.
 */
export { FastPath } from "./ebpf/fast-path.ts";
export { lookAtFastPath, type FastPathLook } from "./ebpf/fast-path-look.ts";
export { knownConnections } from "./ebpf/tracked.ts";
