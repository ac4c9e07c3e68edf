import { expect, test } from "bun:test";
import * as fc from "fast-check";
import type { ConntrackEntry } from "../../../src/linux/conntrack/entry.ts";
import { entryMessage } from "../../../src/linux/conntrack/entry-message.ts";
import { TCP_STATES } from "../../../src/linux/conntrack/status.ts";
import { IP_PROTOCOL } from "../../../src/linux/ip-protocol.ts";
import { decodeEntry, description, encodeDescription } from "./arbitrary.ts";

/** What only the kernel knows of an entry. */
const KERNELS = new Set(["use", "labels", "helper", "secctx", "master", "tcp", "sctp", "stoppedAtMs"]);

test("an entry that is written as the kernel would send it is read as the same entry", () => {
  fc.assert(
    fc.property(description, (any) => {
      const entry = decodeEntry(encodeDescription(any));
      const { protocol, state } = entry;
      // Others have states of their own, and numbers without a name cannot be named.
      fc.pre(protocol !== IP_PROTOCOL.sctp && protocol !== IP_PROTOCOL.dccp);
      fc.pre(state === undefined || (TCP_STATES as readonly string[]).includes(state));
      expect(shared(decodeEntry(entryMessage(entry)))).toEqual(shared(entry));
    }),
  );
});

function shared(entry: ConntrackEntry): object {
  return Object.fromEntries(Object.entries(entry).filter(([key]) => !KERNELS.has(key)));
}
