/** Where on its way a packet is: in whose namespace, and whether it is the packet or its answer. */
export type Side = "pod" | "node";
export type Direction = "out" | "back";
