/** What a pod's link costs beside what the kernel itself takes for it. */
import { closeSync } from "node:fs";
import * as libc from "../src/kernel/libc.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../src/kernel/named-namespace.ts";
import { NetworkNamespace } from "../src/kernel/namespace.ts";
import { Rtnetlink } from "../src/kernel/route/rtnetlink.ts";
import { connectPod, disconnectPod, ensureBridge } from "../src/network/network.ts";
import type { Benchmark } from "./benchmark.ts";

const PODS = 200;
const WARM_UP = 20;

export const benchmarks: readonly Benchmark[] = [
  {
    name: "pod-link/add",
    what: `veth into the pod, enslave, address, default route, neighbours told: ${PODS} pods in one process`,
    target: { ratio: 2.5, of: "kernel floor" },
    needs: ["root"],
    async run(context) {
      using node = Rtnetlink.open();
      const ours = ensureBridge(node, { name: "br-ours", gateways: ["10.1.255.254/16"] }).link.index;
      const theirs = ensureBridge(node, { name: "br-floor", gateways: ["10.2.255.254/16"] }).link.index;
      const pods = { ours: new Pods("ours"), floor: new Pods("floor") };
      const socket = openRaw();
      return {
        ...(await context.compare(
          {
            ours: {
              name: "wayout",
              prepare: (round) => pods.ours.make(round),
              run: (round) => void connectPod(node, pods.ours.at(round), intentOf("w", round, ours)),
            },
            reference: {
              name: "kernel floor",
              prepare: (round) => pods.floor.make(round),
              run: (round) => rawAdd(socket, pods.floor.at(round), round, theirs),
            },
          },
          { rounds: PODS, warmUp: WARM_UP },
        )),
        facts: { pods: PODS },
      };
    },
  },
  {
    name: "pod-link/delete",
    what: "the link taken away again (RTM_DELLINK waits for RCU)",
    target: { ratio: 1.2, of: "kernel floor" },
    needs: ["root"],
    async run(context) {
      using node = Rtnetlink.open();
      const bridge = ensureBridge(node, { name: "br-delete", gateways: ["10.3.255.254/16"] }).link.index;
      const pods = new Pods("delete");
      const socket = openRaw();
      const prepare = (round: number): void => {
        pods.make(round);
        connectPod(node, pods.at(round), intentOf("d", round, bridge));
      };
      const undo = (round: number): void => pods.drop(round);
      return await context.compare(
        {
          ours: {
            name: "wayout",
            prepare,
            run: (round) => void disconnectPod(node, pods.at(round), intentOf("d", round, bridge)),
            undo,
          },
          reference: { name: "kernel floor", prepare, run: (round) => rawDelete(socket, `d${round}`), undo },
        },
        { rounds: 40, warmUp: 3 },
      );
    },
  },
];

function intentOf(prefix: string, round: number, bridge: number) {
  return {
    network: "bench",
    container: `pod-${round}`,
    interfaceName: "eth0",
    hostName: `${prefix}${round}`,
    bridge,
    addresses: [`10.1.${round >> 8}.${round & 255 || 1}/16`],
    routes: [{ destination: "0.0.0.0/0", gateway: "10.1.255.254" }],
    raiseLoopback: false,
  };
}

/** Namespaces of pods, one a round. */
class Pods {
  readonly #open = new Map<number, NetworkNamespace>();

  constructor(readonly prefix: string) {}

  make(round: number): void {
    createNamedNamespace(`${this.prefix}-${round}`);
    this.#open.set(round, NetworkNamespace.named(`${this.prefix}-${round}`));
  }

  at(round: number): NetworkNamespace {
    return this.#open.get(round)!;
  }

  drop(round: number): void {
    this.at(round).close();
    this.#open.delete(round);
    deleteNamedNamespace(`${this.prefix}-${round}`);
  }
}

// ── The floor: bytes put together by hand, one message at a time, nothing read that need not be ──────────────────

const NEWLINK = 16;
const DELLINK = 17;
const NEWADDR = 20;
const NEWROUTE = 24;
const GETLINK = 18;
const CREATE = 0x600;

const answer = new Uint8Array(64 * 1024);

function openRaw(): number {
  const fd = libc.socket(16, 3, 0);
  libc.bind(fd, Uint8Array.of(16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  return fd;
}

/** Sends one message, waits for its acknowledgement. @throws Error with the errno */
function exchange(fd: number, type: number, flags: number, body: Buffer): Buffer {
  const message = Buffer.alloc(16 + body.length);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(flags | 5, 6);
  body.copy(message, 16);
  libc.send(fd, message);
  const length = libc.recv(fd, answer);
  const first = Buffer.from(answer.buffer, 0, length);
  if (first.readUInt16LE(4) === 2) {
    const error = first.readInt32LE(16);
    if (error !== 0) throw new Error(`message ${type}: errno ${-error}`);
    return first;
  }
  // An answer, and its acknowledgement behind it.
  const copy = Buffer.from(first);
  libc.recv(fd, answer);
  return copy;
}

function attribute(type: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc((4 + payload.length + 3) & ~3);
  bytes.writeUInt16LE(4 + payload.length, 0);
  bytes.writeUInt16LE(type, 2);
  payload.copy(bytes, 4);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function text(value: string): Buffer {
  return Buffer.from(`${value}\0`);
}

/** struct ifinfomsg */
function link(index: number, up: boolean): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt32LE(up ? 1 : 0, 8);
  bytes.writeUInt32LE(up ? 1 : 0, 12);
  return bytes;
}

function rawAdd(host: number, pod: NetworkNamespace, round: number, bridge: number): void {
  const name = attribute(3, text(`f${round}`));
  const peer = Buffer.concat([link(0, false), attribute(3, text("eth0")), attribute(28, u32(pod.fd))]);
  const data = attribute(2, attribute(1, peer));
  const info = attribute(18, Buffer.concat([attribute(1, text("veth")), data]));
  exchange(host, NEWLINK, CREATE, Buffer.concat([link(0, false), name, info]));
  exchange(host, NEWLINK, 0, Buffer.concat([link(0, true), name, attribute(10, u32(bridge))]));
  const fd = pod.run(openRaw);
  try {
    const found = exchange(fd, GETLINK, 0, Buffer.concat([link(0, false), attribute(3, text("eth0"))]));
    const index = found.readInt32LE(20);
    const address = Buffer.from([10, 2, round >> 8, round & 255 || 1]);
    const head = Buffer.from([2, 16, 0, 0, ...u32(index)]);
    const addresses = [attribute(2, address), attribute(1, address)];
    exchange(fd, NEWADDR, CREATE, Buffer.concat([head, ...addresses]));
    exchange(fd, NEWLINK, 0, link(index, true));
    const route = Buffer.from([2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
    const way = [attribute(5, Buffer.from([10, 2, 255, 254])), attribute(4, u32(index))];
    exchange(fd, NEWROUTE, CREATE, Buffer.concat([route, ...way]));
  } finally {
    closeSync(fd);
  }
}

function rawDelete(host: number, name: string): void {
  exchange(host, DELLINK, 0, Buffer.concat([link(0, false), attribute(3, text(name))]));
}
