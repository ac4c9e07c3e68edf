/** What somebody takes away, the agent puts back; who was connected stays connected. */
import { expect } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AttachmentStore } from "../../src/attachment/store.ts";
import { TWIN } from "../../src/nat/backends/nftables/names.ts";
import {
  ended,
  freshName,
  seenFrom,
  SERVER,
  start,
  UPLINK,
  WAYOUT,
  wayout,
  world,
} from "../attachment/world.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { connection, echoServer } from "../support/echo.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

const test = testWith(["root", "nft"]);

test("a flushed ruleset is back, and new connections are translated", async () => {
  const { node } = world();
  const blue = freshName();
  await wayout(node, "attach", blue, "--create");
  const before = ask(node, ["nft", "-s", "list", "table", "inet", "wayout"]);
  const agent = await RunningAgent.on(node);
  ask(node, ["nft", "flush", "ruleset"]);
  expect(await agent.says("repaired")).toMatchObject({ step: "nat", object: "table inet wayout" });
  expect(ask(node, ["nft", "-s", "list", "table", "inet", "wayout"])).toBe(before);
  expect(await seenFrom(blue)).toBe(UPLINK.v4);
});

test("forwarding that was switched off is on again: for all, and for one interface", async () => {
  const { node } = world();
  await wayout(node, "attach", freshName(), "--create");
  const agent = await RunningAgent.on(node);
  for (const name of ["net.ipv4.ip_forward", "net.ipv4.conf.up0.forwarding"]) {
    ask(node, ["sysctl", "-qw", `${name}=0`]);
    await agent.says("repaired", { step: "forwarding", object: name });
    expect(ask(node, ["sysctl", "-n", name]).trim()).toBe("1");
  }
});

test("the bridge, its address and a pod's port in it are back, and new connections with them", async () => {
  const { node } = world();
  const blue = freshName();
  await wayout(node, "attach", blue, "--create");
  const { networks, attachments } = new AttachmentStore(node).read();
  const [gateway, { hostInterface }] = [networks[0]!.gateways[0]!, attachments[0]!];
  const agent = await RunningAgent.on(node);
  const losses = [
    [`address delete ${gateway} dev wayout0`, `address ${gateway} on wayout0`],
    [`link set ${hostInterface} nomaster`, `port ${hostInterface} of wayout0`],
    ["link set wayout0 down", "bridge wayout0"],
    ["link delete wayout0", "bridge wayout0"],
  ] as const;
  for (const [loss, object] of losses) {
    ask(node, ["ip", ...loss.split(" ")]);
    expect(await agent.says("repaired")).toMatchObject({ step: "network", object });
    expect([loss, await seenFrom(blue)]).toEqual([loss, UPLINK.v4]);
  }
});

test("a bridge that was there before is not made anew; it is told, and everything else is kept", async () => {
  const { node } = world();
  ask(node, ["ip", "link", "add", "theirs", "type", "bridge"]);
  const own = ["--bridge", "theirs", "--subnet", "10.213.0.0/24", "--ip", "10.213.0.7"];
  expect((await wayout(node, "attach", freshName(), "--create", ...own)).exitCode).toBe(0);
  const agent = await RunningAgent.on(node);
  ask(node, ["ip", "link", "delete", "theirs"]);
  // While the kernel takes it down its port is without it for a moment, and cannot be put back: that may be told before.
  await agent.says("not-repaired", { step: "network", message: /wayout did not make it/ });
  ask(node, ["nft", "flush", "ruleset"]);
  await agent.says("repaired", { step: "nat" });
});

test("a second agent of the node is refused; one of another node is not", async () => {
  const { node } = world();
  await RunningAgent.on(node);
  const second = await ended(start(node, [WAYOUT, "agent", "--journal", "none"]));
  expect(second.exitCode).toBe(1);
  expect(second.stderr).toContain("an agent of this node runs already");
  await RunningAgent.on(world().node);
});

test("where its port is taken it says so and ends, and leaves nothing that listens", async () => {
  const { node } = world();
  const other = node.run(() => Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } }));
  afterThisTest(() => other.stop(true));
  const words = ["--journal", "none", "--no-look", "--token-file", join(tmpdir(), `token-${process.pid}`)];
  afterThisTest(() => rmSync(words.at(-1)!, { force: true }));
  const said = await ended(start(node, [WAYOUT, "agent", ...words, "--listen", `:${other.port}`]));
  expect([said.exitCode, said.stderr]).toEqual([3, expect.stringContaining("Choose another one: --listen")]);
  expect(existsSync(`/run/wayout/agent/${node.cookie}.sock`)).toBe(false);
  expect(existsSync(`/run/wayout/agent/${node.cookie}.lock`)).toBe(false);
});

test("it ends in order: rules and pods stay, the twin and the lock go", async () => {
  const { node } = world();
  const blue = freshName();
  await wayout(node, "attach", blue, "--create");
  const agent = await RunningAgent.on(node);
  expect(ask(node, ["nft", "list", "tables"])).toContain(TWIN.table);
  expect(await agent.stop()).toBe(0);
  expect(ask(node, ["nft", "list", "tables"]).trim()).toBe("table inet wayout");
  expect(existsSync(`/run/wayout/agent/${node.cookie}.lock`)).toBe(false);
  expect(await seenFrom(blue)).toBe(UPLINK.v4);
});

test("one that was killed is followed by another, which takes its twin over", async () => {
  const { node } = world();
  await wayout(node, "attach", freshName(), "--create");
  const first = await RunningAgent.on(node);
  await first.stop("SIGKILL");
  const second = await RunningAgent.on(node);
  expect(run(node, ["nft", "delete", "table", "inet", TWIN.table]).exitCode).not.toBe(0);
  expect(await second.stop()).toBe(0);
});

testWith(["root", "nft", "iptables"])(
  "a flush cuts nobody whom rules of the iptables backend translate, either",
  async () => {
    const { node, outside } = world();
    const blue = freshName();
    await wayout(node, "attach", blue, "--create", "--backend", "iptables");
    echoServer(outside);
    const agent = await RunningAgent.on(node);
    using pod = NetworkNamespace.named(blue);
    const lasting = connection(pod, SERVER.v4, 10);
    expect(await lasting.says("before")).toBe("before");
    ask(node, ["nft", "flush", "ruleset"]);
    await agent.says("repaired", { step: "nat" });
    expect(await lasting.says("after")).toBe("after");
    expect(await seenFrom(blue)).toBe(UPLINK.v4);
  },
);
