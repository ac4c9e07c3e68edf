/** What the death of a pod, of an agent and time itself do to connections: nobody at the other end is hurt by it. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { ebpfCounts, ebpfFlows } from "../../src/nat/backends/ebpf/flows.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { RunningAgent } from "../agent/running-agent.ts";
import { connection, echoServer } from "../support/echo.ts";
import { Talk } from "../support/talk.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import { CLIENT, HANGUP_PORT, NODE, OUTSIDE, world } from "./three-namespaces.ts";

const PODS = ["10.9.0.0/16", "fd00:9::/64"];
const INTENT = masqueradeIntent("cni/blue", PODS);
const NO_BEGINNING = "dropped: no flow begins with such a packet";

function applied() {
  const three = world();
  const nat = new EbpfNat({ namespace: three.node });
  afterThisTest(() => {
    nat.remove();
    nat[Symbol.dispose]();
  });
  return { ...three, nat };
}

/** By a counter of the table `watch`. */
function packetsIn(outside: NetworkNamespace, counter: string): number {
  const text = ask(outside, ["nft", "list", "counter", "ip", "watch", counter]);
  return Number(/packets (\d+)/.exec(text)![1]);
}

testWith(["root", "real-root", "ip", "nft", "curl", "ss"])(
  "a pod that dies in TIME_WAIT leaves its port to nobody for so long, and its peer is asked from another",
  async () => {
    const { node, client, outside, nat } = applied();
    nat.apply(masqueradeIntent("cni/blue", PODS, { translation: { fullyRandom: false } }));
    const url = `http://${OUTSIDE.v4}:${HANGUP_PORT}/`;
    ask(
      outside,
      ["nft", "-f", "-"],
      `table ip watch { counter calls { }; chain pre { type filter hook prerouting priority raw; tcp dport ${HANGUP_PORT} tcp flags & (syn | ack) == syn counter name calls; }; }`,
    );
    /** The other end hangs up, so that it is the one who waits. */
    const hungUp = (from: string): Promise<number> =>
      client.run(() =>
        Bun.spawn(
          [
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            "15",
            "--interface",
            from,
            "--local-port",
            "5000",
            url,
          ],
          { stderr: "ignore" },
        ),
      ).exited;
    const waiting = (): string =>
      ask(outside, ["ss", "-Htn", "state", "time-wait", `sport = :${HANGUP_PORT}`]);
    expect(await hungUp(CLIENT.v4)).toBe(52);
    await until(() => waiting() !== "", "the peer waits");
    expect(waiting()).toContain(`${NODE.v4}]:5000`);
    // The pod is gone; another one takes the same port for the same peer.
    ask(client, ["ip", "address", "delete", `${CLIENT.v4}/24`, "dev", "net1"]);
    expect(await hungUp(CLIENT.other4)).toBe(52);
    // Each was heard at its first attempt.
    expect(packetsIn(outside, "calls")).toBe(2);
    const flows = ebpfFlows(node)!.toSorted((a, b) => (a.source.address < b.source.address ? -1 : 1));
    expect(flows.map(({ source, state }) => [source.address, source.port, state])).toEqual([
      [CLIENT.v4, 5000, "time_wait"],
      [CLIENT.other4, 5000, "time_wait"],
    ]);
    expect(flows[0]!.seenAs!.port).toBe(5000);
    expect(flows[1]!.seenAs!.port).not.toBe(5000);
    expect(waiting().trim().split("\n")).toHaveLength(2);
  },
);

testWith(["root", "real-root", "ip", "nft", "bash"])(
  "a connection that was idle for longer than the timeout is neither reset nor told outside; the next one works",
  async () => {
    const { node, client, outside, nat } = applied();
    writeSysctl(node, "net.netfilter.nf_conntrack_tcp_timeout_established", "1");
    nat.apply(INTENT);
    ask(
      outside,
      ["nft", "-f", "-"],
      `table ip watch { counter leaked { }; counter resets { }; chain pre { type filter hook prerouting priority raw;
        ip saddr 10.9.0.0/16 counter name leaked; ip saddr ${NODE.v4} tcp flags rst counter name resets; }; }`,
    );
    echoServer(outside);
    // On a busy machine a connection may be idle for too long before it has said anything.
    let talk = connection(client, OUTSIDE.v4, 1);
    await until(async () => {
      if ((await talk.says("one")) === "one") return true;
      talk = connection(client, OUTSIDE.v4, 1);
      return false;
    }, "a connection is heard");
    await until(() => ebpfFlows(node)!.length === 0, "the record of the connection expires");
    expect(await talk.says("two")).toBe("lost");
    expect(ebpfCounts(node)!.get(NO_BEGINNING)).toBeGreaterThan(0n);
    expect(await connection(client, OUTSIDE.v4).says("three")).toBe("three");
    expect(["leaked", "resets"].map((name) => packetsIn(outside, name))).toEqual([0, 0]);
  },
);

testWith(["root", "real-root", "ip"])(
  "an agent that is killed, and one that comes after it, touch no connection",
  async () => {
    const { node, client, outside } = applied();
    const directory = mkdtempSync(join(tmpdir(), "wayout-lifetimes-"));
    afterThisTest(() => rmSync(directory, { recursive: true }));
    const path = join(directory, "policy.yaml");
    writeFileSync(path, `sources: ${JSON.stringify(PODS)}\nbackend: ebpf\n`);
    const running = async (namespace: NetworkNamespace): Promise<RunningAgent> => {
      const agent = await RunningAgent.on(namespace, "--config", path);
      await agent.says("policy", { level: "info" });
      return agent;
    };
    const first = await running(node);
    const talk = await Talk.between(client, outside, OUTSIDE);
    afterThisTest(() => talk.stop());
    const goesOn = async (what: string): Promise<void> =>
      expect([what, talk.ends, await talk.silent()]).toEqual([what, 0, 0]);
    await goesOn("under an agent");
    await first.stop("SIGKILL");
    await goesOn("it was killed");
    const second = await running(node);
    await goesOn("another has come");
    expect(await second.stop()).toBe(0);
    await goesOn("it has ended");
    expect([...talk.seen].toSorted()).toEqual([NODE.v6, NODE.v4].toSorted());
  },
);
