/** Addresses outside that stand for "the internet" when nobody named a destination. Nothing is sent to them. */
import type { Target } from "./predict/path.ts";

export const ANYWHERE: Readonly<Record<4 | 6, Target>> = {
  4: { address: "1.1.1.1", protocol: "tcp", port: 443 },
  6: { address: "2606:4700:4700::1111", protocol: "tcp", port: 443 },
};
