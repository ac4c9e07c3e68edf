/** Connections that are tracked when the rules change: which are forgotten, and which go on as they are. */
import { expect } from "bun:test";
import { IP_PROTOCOL } from "../../src/linux/ip-protocol.ts";
import { Conntrack } from "../../src/kernel/conntrack/conntrack.ts";
import { InetSocket } from "../../src/kernel/inet-socket.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { masqueradeIntent, type NatIntent } from "../../src/nat/intent.ts";
import { openNat } from "../../src/nat/open.ts";
import { applyAndSettle, type SettleOptions } from "../../src/nat/settle-flows.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { CLIENT, NODE, OUTSIDE, UPLINK, world } from "./three-namespaces.ts";

const test = testWith(["root", "ip", "nft"]);
const PORT = 9;

/** A UDP flow of a namespace, and as whom the node sends it on. */
class UdpFlow {
  readonly #socket: InetSocket;

  constructor(
    from: NetworkNamespace,
    private readonly node: NetworkNamespace,
    readonly to: string,
  ) {
    this.#socket = InetSocket.open(from, "udp", to.includes(":") ? 6 : 4);
    afterThisTest(() => this.#socket.close());
    this.#socket.connect({ address: to, port: PORT });
    this.send();
  }

  send(): void {
    try {
      this.#socket.send(new Uint8Array(1));
    } catch {
      // ICMP came back for the packet before: nobody listens, and nobody has to.
      this.#socket.send(new Uint8Array(1));
    }
  }

  /** After its next packet: the kernel's number for it, and the source that the other side sees. */
  next(): { readonly id: number; readonly seenAs: string } {
    this.send();
    using table = Conntrack.open(this.node);
    const { port } = this.#socket.local();
    const found = table
      .entries({ protocol: IP_PROTOCOL.udp, original: { destination: this.to } })
      .filter(({ original }) => original.sourcePort === port);
    expect(found).toHaveLength(1);
    return { id: found[0]!.id, seenAs: found[0]!.reply.destination };
  }
}

/** Whatever else the node has for rules: it tracks. */
function track(node: NetworkNamespace): void {
  ask(node, [
    "nft",
    "add table inet keep { chain c { type filter hook forward priority 0; ct state new counter; }; }",
  ]);
}

function settled(node: NetworkNamespace, intent: NatIntent, options: SettleOptions = {}) {
  using nat = openNat("nftables", node);
  return applyAndSettle(nat, node, intent, options).flows;
}

test("what leaves with a pod's address although it is translated is forgotten, and only that", () => {
  const { client, node } = world();
  track(node);
  // The node itself as a client: what it sends has the address already that MASQUERADE would give it.
  ask(node, ["nft", "add chain inet keep o { type filter hook output priority 0; ct state new counter; }"]);
  ask(node, ["nft", "add chain inet keep i { type filter hook input priority 0; ct state new counter; }"]);
  const stale = [new UdpFlow(client, node, OUTSIDE.v4), new UdpFlow(client, node, OUTSIDE.v6)];
  const excluded = new UdpFlow(client, node, OUTSIDE.near4);
  const toNode = new UdpFlow(client, node, NODE.v4);
  const ofNode = new UdpFlow(node, node, OUTSIDE.v4);
  expect(stale.map((flow) => flow.next().seenAs)).toEqual([CLIENT.v4, CLIENT.v6]);
  const before = [excluded, toNode, ofNode].map((flow) => flow.next());
  const intent = masqueradeIntent("policy", ["0.0.0.0/0", "fd00:9::/64"], {
    untranslated: [`${OUTSIDE.near4}/32`],
  });
  const everybody = { ...intent, untranslated: intent.untranslated.filter((cidr) => cidr !== "0.0.0.0/0") };
  expect(settled(node, everybody)).toEqual({ forgotten: 2, kept: 0 });
  expect(stale.map((flow) => flow.next().seenAs)).toEqual([NODE.v4, NODE.v6]);
  expect([excluded, toNode, ofNode].map((flow) => flow.next())).toEqual(before);
  expect(settled(node, everybody, { always: true })).toEqual({ forgotten: 0, kept: 0 });
});

test("a translated flow keeps its translation, unless it is cut", () => {
  const { client, node } = world();
  const intents = [6, 7].map((host) => {
    const address = `203.0.113.${host}`;
    const translation = { snat: { first: address, last: address }, fullyRandom: false };
    return masqueradeIntent("policy", ["10.9.0.0/24"], { translation });
  });
  settled(node, intents[0]!);
  const flow = new UdpFlow(client, node, OUTSIDE.v4);
  const first = flow.next();
  expect(first.seenAs).toBe("203.0.113.6");
  expect(settled(node, intents[1]!)).toEqual({ forgotten: 0, kept: 1 });
  expect(flow.next()).toEqual(first);
  expect(settled(node, intents[1]!, { cut: true })).toEqual({ forgotten: 1, kept: 0 });
  expect(flow.next().seenAs).toBe("203.0.113.7");
  // To MASQUERADE, and to no translation at all.
  const plain = masqueradeIntent("policy", ["10.9.0.0/24"]);
  expect(settled(node, plain)).toEqual({ forgotten: 0, kept: 1 });
  expect(settled(node, plain, { cut: true })).toEqual({ forgotten: 1, kept: 0 });
  expect(flow.next().seenAs).toBe(NODE.v4);
  const none = masqueradeIntent("policy", ["10.9.0.0/24"], { untranslated: [`${OUTSIDE.v4}/32`] });
  expect(settled(node, none)).toEqual({ forgotten: 0, kept: 1 });
  expect(settled(node, none, { cut: true })).toEqual({ forgotten: 1, kept: 0 });
  expect(flow.next().seenAs).toBe(CLIENT.v4);
});

test("a source that is bound to an interface is looked at there only; a translation of others is theirs", () => {
  const { client, node } = world();
  track(node);
  const flow = new UdpFlow(client, node, OUTSIDE.v4);
  const plain = masqueradeIntent("policy", ["10.9.0.0/24"]);
  const bound = (name: string): NatIntent => ({
    ...plain,
    sources: plain.sources.map((source) => ({ ...source, outInterfaces: [name] })),
  });
  const before = flow.next();
  expect(settled(node, bound("other0"))).toEqual({ forgotten: 0, kept: 0 });
  expect(flow.next()).toEqual(before);
  expect(settled(node, bound(UPLINK))).toEqual({ forgotten: 1, kept: 0 });
  expect(flow.next().seenAs).toBe(NODE.v4);
  using nat = openNat("nftables", node);
  nat.remove();
  ask(node, [
    "nft",
    "add table ip other { chain p { type nat hook postrouting priority srcnat; ip saddr 10.9.1.0/24 snat to 203.0.113.9; }; }",
  ]);
  ask(client, ["ip", "address", "delete", `${CLIENT.v4}/24`, "dev", "net1"]);
  ask(client, ["ip", "route", "replace", "default", "via", "10.9.1.1"]);
  const theirs = new UdpFlow(client, node, OUTSIDE.v4);
  const seen = theirs.next();
  expect(seen.seenAs).toBe("203.0.113.9");
  // As long as nobody of ours wants anything of it.
  expect(settled(node, plain, { cut: true })).toEqual({ forgotten: 0, kept: 0 });
  expect(theirs.next()).toEqual(seen);
  const ours = masqueradeIntent("policy", ["10.9.0.0/16"]);
  expect(settled(node, ours)).toEqual({ forgotten: 0, kept: 1 });
  // Also when it is cut later.
  expect(settled(node, ours, { cut: true })).toEqual({ forgotten: 1, kept: 0 });
  expect(theirs.next().seenAs).toBe(NODE.v4);
});

test("what rules leave alone is no stale flow: another owner's exceptions, and what comes from elsewhere", () => {
  const { client, node } = world();
  track(node);
  using nat = openNat("nftables", node);
  const blue = masqueradeIntent("cni/blue", ["10.9.0.0/24"]);
  const policy = masqueradeIntent("policy", ["10.0.0.0/8"], { untranslated: ["198.51.100.0/24"] });
  nat.apply(policy);
  const flow = new UdpFlow(client, node, OUTSIDE.v4);
  const { id } = flow.next();
  // The policy's exceptions hold for the network's pods.
  expect(applyAndSettle(nat, node, blue, { always: true }).flows).toEqual({ forgotten: 0, kept: 0 });
  nat.remove("policy");
  // A network whose pods come by another interface than this one's.
  const elsewhere = {
    ...blue,
    sources: blue.sources.map((source) => ({ ...source, inInterfaces: ["cni0"] })),
  };
  expect(applyAndSettle(nat, node, elsewhere, { always: true }).flows).toEqual({ forgotten: 0, kept: 0 });
  expect(flow.next()).toEqual({ id, seenAs: CLIENT.v4 });
  const here = { ...blue, sources: blue.sources.map((source) => ({ ...source, inInterfaces: ["pods"] })) };
  expect(applyAndSettle(nat, node, here).flows).toEqual({ forgotten: 1, kept: 0 });
  expect(flow.next().seenAs).toBe(NODE.v4);
});
