/** The one row by which wayout knows the backend of this folder. Loaded before everything else (bun --preload). */
import { BACKENDS, NAT_BACKENDS, type BackendRow } from "../../../src/nat/backends/backends.ts";

const row: BackendRow = {
  load: async () => {
    const { PlainNat } = await import("./plain.ts");
    return (options) => new PlainNat(options);
  },
  translates: true,
  postrouting: 97,
  lack: "no-plain",
  marks: [{ table: "ip6? plain" }],
};
// The table is closed to programs, and this is no part of the program.
Object.assign(BACKENDS, { plain: row });
(NAT_BACKENDS as string[]).push("plain");
