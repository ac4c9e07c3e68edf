/** Attachments that are cut off: by a failing kernel, by kill -9, by Ctrl-C, by another command at the same time. */
import { describe, expect } from "bun:test";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { attach } from "../../src/attachment/attach.ts";
import { AttachmentNode } from "../../src/attachment/node.ts";
import { ERRNO, SystemError } from "../../src/linux/errno.ts";
import { FileLock } from "../../src/kernel/file-lock.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { NETLINK_ROUTE, openTransport, type NetlinkTransport } from "../../src/kernel/netlink/transport.ts";
import { processStart } from "../../src/kernel/process.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import {
  ended,
  freshName,
  nodeState,
  seenFrom,
  start,
  UPLINK,
  WAYOUT,
  wayout,
  wayoutJson,
  world,
} from "./world.ts";

const testRoot = testWith(["root", "ip", "nft", "curl"]);

/** A kernel that refuses the n-th message (from 0) it is sent, and only that. */
function failingAt(n: number, inner: NetlinkTransport): NetlinkTransport & { readonly sent: number } {
  let sent = 0;
  return {
    get sent() {
      return sent;
    },
    send(datagram) {
      if (sent++ === n) throw new SystemError("send", ERRNO.ENOBUFS);
      inner.send(datagram);
    },
    receive: (timeoutMs) => inner.receive(timeoutMs),
    join: (group) => inner.join(group),
    close: () => inner.close(),
  };
}

testRoot("whichever message to the node's kernel fails, nothing is left", async () => {
  const { node } = world();
  const blue = freshName();
  const before = nodeState(node);
  let failures = 0;
  for (let n = 0; ; n++) {
    using namespace = NetworkNamespace.named(node.name!);
    const transport = failingAt(n, openTransport(NETLINK_ROUTE, { namespace }));
    using route = new Rtnetlink(transport, namespace);
    const outcome = await attach(new AttachmentNode(namespace, route), {
      namespace: blue,
      create: true,
    }).then(
      () => "attached" as const,
      (error: unknown) => String(error),
    );
    if (outcome === "attached" && transport.sent <= n) break;
    // A step that only looks whether something is there may go on without its answer.
    if (outcome !== "attached") {
      failures++;
      expect(outcome).toMatch(/ENOBUFS/);
      expect([n, nodeState(node)]).toEqual([n, before]);
    } else await wayoutJson(node, "detach", blue);
  }
  expect(failures).toBeGreaterThan(8);
  expect(await seenFrom(blue)).toBe(UPLINK.v4);
});

describe("killed in the middle", () => {
  const ROUNDS = 6;

  /** Starts wayout and kills it `delayMs` after it has taken the lock. */
  async function killed(node: NetworkNamespace, args: readonly string[], delayMs: number): Promise<void> {
    const record = `/run/wayout/attachments/${node.cookie}.json.lock`;
    const child = start(node, [WAYOUT, ...args]);
    // Ended already, and never seen at it: then this round only shows that nothing is broken by that.
    while (!existsSync(record) && processStart(child.pid) !== undefined) Bun.sleepSync(0.2);
    Bun.sleepSync(delayMs);
    child.kill("SIGKILL");
    await ended(child);
  }

  testRoot("attach begins anew, and detach leaves nothing", async () => {
    const { node } = world();
    const before = nodeState(node);
    for (let round = 0; round < ROUNDS; round++) {
      const blue = freshName();
      await killed(node, ["attach", blue, "--create", "--dns", "198.51.100.53"], round * 4);
      const again = round % 2 === 0 ? blue : freshName("green");
      await wayoutJson(node, "attach", again, "--create");
      expect(await seenFrom(again)).toBe(UPLINK.v4);
      await wayoutJson(node, "detach", again);
      // Killed after all was done, it was an attachment like any other.
      if (again !== blue) await wayout(node, "detach", blue);
      expect([round, nodeState(node)]).toEqual([round, before]);
    }
  });

  testRoot("detach is finished by the next one", async () => {
    const { node } = world();
    const before = nodeState(node);
    for (let round = 0; round < ROUNDS; round++) {
      const blue = freshName();
      await wayoutJson(node, "attach", blue, "--create", "--dns", "198.51.100.53");
      await killed(node, ["detach", blue], round * 4);
      await wayout(node, "detach", blue);
      expect([round, nodeState(node)]).toEqual([round, before]);
    }
  });
});

testRoot("Ctrl-C leaves all or nothing", async () => {
  const { node } = world();
  const before = nodeState(node);
  let interrupted = 0;
  for (let round = 0; round < 12; round++) {
    const blue = freshName();
    const child = start(node, [WAYOUT, "attach", blue, "--create"]);
    await Bun.sleep(round * 12);
    child.kill("SIGINT");
    const { exitCode } = await ended(child);
    if (exitCode === 0) await wayoutJson(node, "detach", blue);
    else interrupted++;
    expect([round, nodeState(node)]).toEqual([round, before]);
  }
  expect(interrupted).toBeGreaterThan(0);
});

testRoot("Ctrl-C ends the wait for another command at once", async () => {
  const { node } = world();
  const before = nodeState(node);
  const lock = `/run/wayout/attachments/${node.cookie}.json.lock`;
  mkdirSync(dirname(lock), { recursive: true });
  const holder = FileLock.try(lock)!.sign();
  const child = start(node, [WAYOUT, "attach", freshName(), "--create"]);
  const isWaiting = (name: string): boolean => name.startsWith(`${basename(lock)}.wait-`);
  await until(() => readdirSync(dirname(lock)).some(isWaiting), "it waits for the lock");
  child.kill("SIGINT");
  const { exitCode, stderr } = await ended(child);
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining("interrupted while it waited")]);
  holder.remove();
  rmSync("/run/wayout", { recursive: true });
  expect(nodeState(node)).toEqual(before);
});

testRoot("a full disk is told, and nothing is left of what could not be remembered", async () => {
  const { node } = world();
  const before = nodeState(node);
  const directory = "/run/wayout/attachments";
  mkdirSync(directory, { recursive: true });
  // One page: the plan can be written, the second version beside it cannot.
  ask(undefined, ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", directory]);
  try {
    for (const filler of [undefined, `${directory}/filler`]) {
      if (filler !== undefined) writeFileSync(filler, "x".repeat(4096));
      const { exitCode, stderr } = await wayout(node, "attach", freshName(), "--create");
      expect(stderr).toMatch(/writing \/run\/wayout.*(no space left|ENOSPC)/i);
      expect(exitCode).toBe(3);
      if (filler !== undefined) rmSync(filler);
      expect({ ...nodeState(node), files: "" }).toEqual({ ...before, files: "" });
    }
  } finally {
    ask(undefined, ["umount", directory]);
  }
  rmSync("/run/wayout", { recursive: true });
  expect(nodeState(node)).toEqual(before);
});

describe("two at once", () => {
  testRoot("get two addresses, and the last of them to go takes everything away", async () => {
    const { node } = world();
    const before = nodeState(node);
    const names = Array.from({ length: 5 }, () => freshName());
    const attached = await Promise.all(
      names.map((name) => wayoutJson<{ addresses: string[] }>(node, "attach", name, "--create")),
    );
    expect(new Set(attached.flatMap(({ addresses }) => addresses)).size).toBe(5);
    for (const name of names) expect(await seenFrom(name)).toBe(UPLINK.v4);
    await Promise.all(names.map((name) => wayoutJson(node, "detach", name)));
    expect(nodeState(node)).toEqual(before);
  });

  testRoot("of the same namespace are one attachment", async () => {
    const { node } = world();
    const blue = freshName();
    const both = await Promise.all(
      [1, 2].map(() =>
        wayoutJson<{ changed: boolean; addresses: string[] }>(node, "attach", blue, "--create"),
      ),
    );
    expect(both.filter(({ changed }) => changed)).toHaveLength(1);
    expect(both[0]?.addresses).toEqual(both[1]!.addresses);
  });
});
