import type { NetworkNamespace } from "./namespace.ts";

/** The value without its newline; undefined when this kernel or namespace has no such setting. */
export declare function readSysctl(namespace: NetworkNamespace | undefined, name: string): string | undefined;

/** Reads, and writes only when the value differs. Returns the previous value. @throws WayoutError-ready SysctlError */
export declare function writeSysctl(
  namespace: NetworkNamespace | undefined,
  name: string,
  value: string,
): string;
