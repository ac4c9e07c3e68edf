/** Connections that our eBPF programs translate: watched and flushed like the kernel's. */
import { expect } from "bun:test";
import { join } from "node:path";
import { deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { serving } from "../doctor/world.ts";
import { buildNodeWorld } from "../support/node-world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith, type Ran } from "../support/witness.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const SERVER = "198.51.100.81";

testWith(["root", "real-root", "ip", "curl"])(
  "connections of the programs are announced, and end at a person's word",
  async () => {
    const { node, outside } = buildNodeWorld({
      uplink: {
        name: "wan6",
        outsideName: "isp6",
        addresses: ["203.0.113.6/24"],
        outsideAddresses: ["203.0.113.1/24"],
        gateways: ["203.0.113.1"],
      },
      servers: [`${SERVER}/32`],
      forwards: true,
    });
    await using _server = await serving(outside, 80, "");
    const wayout = (...args: string[]): Ran => node.run(() => run(undefined, [WAYOUT, ...args]));
    afterThisTest(() => {
      wayout("detach", "plum");
      deleteNamedNamespace("plum");
    });
    expect(wayout("attach", "plum", "--create", "--backend", "ebpf").exitCode).toBe(0);
    const watch = node.run(() =>
      Bun.spawn([WAYOUT, "conntrack", "watch", "--json", "--no-pods", "--dst", SERVER], { stdout: "pipe" }),
    );
    afterThisTest(() => watch.kill());
    const lines = linesOf(watch.stdout);
    const next = async (): Promise<Line> => JSON.parse((await lines.next()).value!) as Line;
    expect(await next()).toMatchObject({ event: "watching", flows: 0 });
    const fetched = ["ip", "netns", "exec", "plum", "curl", "-sS", "--noproxy", "*", `http://${SERVER}/`];
    expect(await Bun.spawn(fetched, { stdout: "ignore" }).exited).toBe(0);
    const begun = await next();
    expect(begun).toMatchObject({
      event: "new",
      flow: { protocol: 6, original: { destination: SERVER }, reply: { destination: "203.0.113.6" } },
    });
    let { flow } = begun;
    while (flow!.state !== "TIME_WAIT") ({ flow } = await next());
    // What is only asked about stays.
    const dry = wayout("conntrack", "flush", "--dst", SERVER, "--dry-run", "--json");
    expect(JSON.parse(dry.stdout)).toMatchObject({ matched: 1, deleted: 0 });
    const flushed = wayout("conntrack", "flush", "--dst", SERVER);
    expect([flushed.exitCode, flushed.stdout + flushed.stderr]).toEqual([
      0,
      expect.stringContaining("1 flow deleted"),
    ]);
    expect(await next()).toMatchObject({ event: "destroy", missed: false, flow: { id: begun.flow!.id } });
    expect(JSON.parse(wayout("conntrack", "list", "--json", "--dst", SERVER).stdout)).toEqual([]);
  },
);

interface Line {
  readonly event: string;
  readonly flow?: { readonly id: number; readonly state?: string };
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream() as never) as ReadableStream<string>) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
  return undefined;
}
