/** firewalld and ufw themselves: their filters drop forwarded packets, and a policy's admit lets the pods through. */
import { expect } from "bun:test";
import { rmSync, writeFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RunningAgent } from "../agent/running-agent.ts";
import { freshName, seenFrom, UPLINK, wayout, world } from "../attachment/world.ts";
import { HouseOfProducts, prepareUfw, startFirewalld, testWithProduct } from "../support/products.ts";
import { afterThisTest } from "../support/teardown.ts";

const SUBNET = "10.213.0.0/24";
const TIMEOUT_MS = 180_000;

async function podAndPolicy(door: string) {
  const { node } = world();
  const pod = freshName();
  await wayout(node, "attach", pod, "--create", "--subnet", SUBNET);
  const directory = mkdtempSync(join(tmpdir(), "wayout-admission-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "policy.yaml");
  writeFileSync(path, `sources: [${SUBNET}]\nadmit: ${door}\n`);
  return { node, pod, path, without: () => writeFileSync(path, `sources: [${SUBNET}]\n`) };
}

testWithProduct("firewalld", ["dbus-daemon", "unshare", "nsenter"])(
  "firewalld lets the pods through, after a reload as well, and no more when the policy does not say so",
  async () => {
    const { node, pod, path, without } = await podAndPolicy("firewalld-zone");
    const firewalld = await HouseOfProducts.of(node, "firewalld");
    await startFirewalld(firewalld);
    const sources = (): string => firewalld.ask("firewall-cmd", "--zone=trusted", "--list-sources").trim();
    expect(await seenFrom(pod)).toBeUndefined();
    // Somebody else's source stays when ours goes.
    firewalld.ask("firewall-cmd", "--zone=trusted", "--add-source=10.99.0.0/24");
    const agent = await RunningAgent.within(firewalld.wrapper, node, "--config", path);
    await agent.says("repaired", { step: "firewalld-zone" });
    expect(sources()).toBe(`10.99.0.0/24 ${SUBNET}`);
    expect(await seenFrom(pod)).toBe(UPLINK.v4);
    firewalld.ask("firewall-cmd", "--reload");
    await agent.says("repaired", { step: "firewalld-zone" });
    expect(sources()).toBe(SUBNET);
    expect(await seenFrom(pod)).toBe(UPLINK.v4);
    firewalld.ask("firewall-cmd", "--zone=trusted", "--add-source=10.99.0.0/24");
    without();
    await agent.says("repaired", { step: "firewalld-zone" });
    expect(sources()).toBe("10.99.0.0/24");
    expect(await seenFrom(pod)).toBeUndefined();
  },
  TIMEOUT_MS,
);

testWithProduct("ufw", ["iptables", "unshare", "nsenter"])(
  "ufw lets the pods through by a route rule of its own, which goes with the policy",
  async () => {
    const { node, pod, path, without } = await podAndPolicy("ufw-route");
    const ufw = await HouseOfProducts.of(node, "ufw");
    prepareUfw(ufw);
    ufw.ask("ufw", "--force", "enable");
    ufw.ask("ufw", "route", "allow", "from", "10.99.0.0/24", "comment", "theirs");
    expect(await seenFrom(pod)).toBeUndefined();
    const agent = await RunningAgent.within(ufw.wrapper, node, "--config", path);
    await agent.says("repaired", { step: "ufw-route" });
    expect(ufw.ask("ufw", "status")).toMatch(/ALLOW FWD\s+10\.213\.0\.0\/24\s+# wayout/);
    expect(await seenFrom(pod)).toBe(UPLINK.v4);
    ufw.ask("iptables", "-F", "ufw-user-forward");
    await agent.says("repaired", { step: "ufw-route" });
    expect(await seenFrom(pod)).toBe(UPLINK.v4);
    ufw.ask("ufw", "route", "delete", "allow", "from", SUBNET);
    await agent.says("repaired", { step: "ufw-route" });
    expect(await seenFrom(pod)).toBe(UPLINK.v4);
    without();
    await agent.says("repaired", { step: "ufw-route" });
    expect(ufw.ask("ufw", "status")).not.toContain(SUBNET);
    expect(ufw.ask("ufw", "status")).toContain("theirs");
    expect(await seenFrom(pod)).toBeUndefined();
  },
  TIMEOUT_MS,
);
