/** Expressions that put something about the packet into a register: payload, meta, exthdr, rt, socket. */
import { ARPHRD } from "../../linux/link-layer.ts";
import { NFPROTO } from "../../linux/netfilter.ts";
import { ipBytes } from "../../address/ip.ts";
import type { ExpressionKinded } from "../../linux/nftables/expressions.ts";
import { registerWord } from "../../linux/nftables/registers.ts";
import { decide } from "./comparisons.ts";
import { etherType, readNetwork, readPorts, type KnownBytes } from "./headers.ts";
import {
  BREAK,
  CONTINUE,
  type Differing,
  type Machine,
  type Sender,
  type Step,
  type StepResult,
} from "./machine.ts";
import { PROTOCOL_NUMBER } from "./packet.ts";
import { TCP_FLAG } from "../../linux/tcp.ts";

const LINK_TYPES: Readonly<Record<string, number>> = ARPHRD;
/** IFNAMSIZ */
const NAME_BYTES = 16;

export function compilePayload(expression: ExpressionKinded<"payload">): Step {
  const { base, offset, length, dreg } = expression;
  if (expression.sreg !== undefined) return compilePayloadSet(expression, registerWord(expression.sreg));
  if (dreg === undefined) return () => CONTINUE;
  const word = registerWord(dreg);
  return (machine) => {
    const header = headerAt(machine, base);
    if (header === undefined || offset + length > header.bytes.length) {
      if (machine.packet.arp !== undefined) return BREAK;
      return carried(machine, word, length, `what stands at byte ${offset} of the ${base} header`);
    }
    machine.storePart(word, header.bytes, offset, length);
    for (let at = offset; at < offset + length; at++) {
      if (header.known[at] === 1) continue;
      machine.storeUnknown(word, length, `bytes ${offset} to ${offset + length - 1} of the ${base} header`);
      break;
    }
    const { family, arp } = machine.packet;
    if (arp === undefined && base === "network" && length === 2 && offset === (family === 4 ? 2 : 4)) {
      machine.differs(word, { ...LENGTH, text: (bytes) => String((bytes[0]! << 8) | bytes[1]!) });
    }
    return CONTINUE;
  };
}

/**
 * What a packet carries behind its headers: the first of a TCP connection nothing, so that the kernel breaks off there;
 * later ones and datagrams what nobody can foresee.
 */
function carried(machine: Machine, word: number, length: number, what: string): StepResult {
  const likely = machine.packet.protocol === "tcp" ? false : undefined;
  if (!machine.ask(what, likely, undefined, "content")) return BREAK;
  // The same words give the same answer each time.
  machine.storeUnknown(word, length, what);
  return CONTINUE;
}

/** Later packets of a flow are larger than its first one. */
const LENGTH = { about: "the length of the packet", of: "content" } as const;

/** A header that is written to: what the packet is from there on. */
function compilePayloadSet({ base, offset, length }: ExpressionKinded<"payload">, word: number): Step {
  return (machine) => {
    const header = headerAt(machine, base);
    if (header === undefined || base === "link" || offset + length > header.bytes.length) return CONTINUE;
    const why = machine.whyUnknown(word, length);
    if (why !== undefined) return decide(machine, `what is written to the ${base} header: ${why.why}`, true);
    const bytes = Uint8Array.from(header.bytes);
    bytes.set(machine.load(word, length), offset);
    const { ttl } = machine.packet;
    machine.packet =
      base === "network" ? readNetwork(machine.packet, bytes) : readPorts(machine.packet, bytes);
    if (machine.packet.ttl !== ttl) machine.ttlBy = machine.here?.();
    return CONTINUE;
  };
}

function headerAt(machine: Machine, base: string): KnownBytes | undefined {
  const { link, network, transport } = machine.headers;
  switch (base) {
    case "link":
      return link;
    case "network":
      return network;
    case "transport":
      return transport;
    default:
      return undefined;
  }
}

/** A name as the kernel compares it: sixteen bytes, zeros behind. */
export function nameBytes(name: string): Uint8Array {
  const bytes = new Uint8Array(NAME_BYTES);
  bytes.set(Buffer.from(name).subarray(0, NAME_BYTES - 1));
  return bytes;
}

type MetaKey = ExpressionKinded<"meta">["key"];

export function compileMeta(expression: ExpressionKinded<"meta">): Step {
  const { key, dreg, sreg } = expression;
  if (sreg !== undefined) return compileMetaSet(key, registerWord(sreg));
  if (dreg === undefined) return () => CONTINUE;
  const word = registerWord(dreg);
  const load = META[key];
  if (load === undefined) {
    return (machine) => {
      machine.storeUnknown(word, 4, `meta ${key}`);
      return CONTINUE;
    };
  }
  return (machine) => load(machine, word);
}

function compileMetaSet(key: MetaKey, word: number): Step {
  if (key !== "mark") return () => CONTINUE;
  return (machine) => {
    const why = machine.whyUnknown(word, 4);
    // A mark nobody can foresee: rules that look at it later ask again.
    machine.unknownMark = why;
    if (why === undefined) machine.setMark(machine.loadNumber(word));
    else machine.markedBy = machine.here?.();
    return CONTINUE;
  };
}

type Load = (machine: Machine, word: number) => StepResult;

const number =
  (of: (machine: Machine) => number): Load =>
  (machine, word) => {
    machine.storeNumber(word, of(machine));
    return CONTINUE;
  };

const name =
  (of: (machine: Machine) => string | undefined): Load =>
  (machine, word) => {
    machine.store(word, nameBytes(of(machine) ?? ""));
    return CONTINUE;
  };

const unknowable =
  (what: string, length = 4): Load =>
  (machine, word) => {
    machine.storeUnknown(word, length, what);
    return CONTINUE;
  };

/** What only packets of a local socket have. Forwarded ones have none, and the kernel breaks off. */
const ofSocket =
  (what: string, of?: (sender: Sender) => number): Load =>
  (machine, word) => {
    if (machine.packet.iif !== undefined) return BREAK;
    if (of !== undefined && machine.sender !== undefined) machine.storeNumber(word, of(machine.sender));
    else machine.storeUnknown(word, 4, what);
    return CONTINUE;
  };

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/** Part of the present moment, in UTC as the kernel has it. */
function ofTime(about: string, bytes: 1 | 4, of: (now: Date) => number, text: Differing["text"]): Load {
  return (machine, word) => {
    const { now } = machine.view;
    if (now === undefined) {
      machine.storeUnknown(word, bytes, about);
      return CONTINUE;
    }
    machine.storeNumber(word, of(now));
    machine.differs(word, { about, of: "time", text });
    return CONTINUE;
  };
}

function hourText(bytes: Uint8Array): string {
  const seconds = Buffer.from(bytes).readUInt32LE();
  return `${new Date(seconds * 1000).toISOString().slice(11, 16)} UTC`;
}

const META: Partial<Record<MetaKey, Load>> = {
  length: (machine, word) => {
    machine.storeNumber(word, machine.packet.length);
    machine.differs(word, { ...LENGTH, text: (bytes) => String(Buffer.from(bytes).readUInt32LE()) });
    return CONTINUE;
  },
  protocol: (machine, word) => {
    const type = etherType(machine.packet);
    machine.store(word, [type >> 8, type & 0xff]);
    return CONTINUE;
  },
  priority: number(() => 0),
  mark: (machine, word) => {
    if (machine.unknownMark === undefined) machine.storeNumber(word, machine.packet.mark);
    else machine.storeUnknown(word, 4, machine.unknownMark);
    return CONTINUE;
  },
  iif: number(({ packet, view }) => view.link(packet.iif)?.index ?? 0),
  oif: number(({ packet, view }) => view.link(packet.oif)?.index ?? 0),
  iifname: name(({ packet }) => packet.iif),
  oifname: name(({ packet }) => packet.oif),
  iiftype: number(({ packet, view }) => LINK_TYPES[view.link(packet.iif)?.layer ?? ""] ?? 1),
  oiftype: number(({ packet, view }) => LINK_TYPES[view.link(packet.oif)?.layer ?? ""] ?? 1),
  iifgroup: number(({ packet, view }) => view.link(packet.iif)?.group ?? 0),
  oifgroup: number(({ packet, view }) => view.link(packet.oif)?.group ?? 0),
  iifkind: name(({ packet, view }) => view.link(packet.iif)?.kind),
  oifkind: name(({ packet, view }) => view.link(packet.oif)?.kind),
  ibrname: (machine, word) => bridgeName(machine, machine.packet.physicalIn ?? machine.packet.iif, word),
  obrname: (machine, word) => bridgeName(machine, machine.packet.physicalOut ?? machine.packet.oif, word),
  skuid: ofSocket("the user who sends", (sender) => sender.uid),
  skgid: ofSocket("the group who sends", (sender) => sender.gid),
  cgroup: ofSocket("the control group that sends"),
  nftrace: number(() => 0),
  rtclassid: number(() => 0),
  nfproto: number(({ packet }) => (packet.family === 4 ? NFPROTO.ipv4 : NFPROTO.ipv6)),
  l4proto: (machine, word) => {
    if (machine.packet.arp !== undefined) return BREAK;
    machine.storeNumber(word, PROTOCOL_NUMBER[machine.packet.protocol]);
    return CONTINUE;
  },
  // PACKET_HOST: what is addressed to us and to nobody else.
  pkttype: number(() => 0),
  cpu: unknowable("the CPU that handles the packet"),
  random: unknowable("a random number"),
  ipsec: number(({ decryptedBy }) => (decryptedBy === undefined ? 0 : 1)),
  time: unknowable("the time of day", 8),
  day: ofTime(
    "the day of the week",
    1,
    (now) => now.getUTCDay(),
    ([day = 0]) => DAYS[day] ?? String(day),
  ),
  hour: ofTime("the time of day", 4, (now) => Math.floor(now.getTime() / 1000) % 86_400, hourText),
  sdif: number(({ packet, view }) => view.link(packet.iif)?.index ?? 0),
  sdifname: name(({ packet }) => packet.iif),
};

function bridgeName(machine: Machine, port: string | undefined, word: number): StepResult {
  const bridge = machine.view.linkAt(machine.view.link(port)?.master);
  if (bridge === undefined) return BREAK;
  machine.store(word, nameBytes(bridge.name));
  return CONTINUE;
}

/** TCP options that a Linux SYN carries: maximum segment size, window scale, SACK permitted, timestamps. */
const SYN_OPTIONS: ReadonlySet<number> = new Set([2, 3, 4, 8]);

export function compileExthdr(expression: ExpressionKinded<"exthdr">): Step {
  const { op = "ipv6", type, dreg, sreg, flags = [], length = 1 } = expression;
  if (sreg !== undefined || dreg === undefined) {
    // Written: "tcp option maxseg size set". It breaks off when the packet has no such option.
    return (machine) => (op === "tcp option" && !hasOption(machine, type) ? BREAK : CONTINUE);
  }
  const word = registerWord(dreg);
  return (machine) => {
    const there = op === "tcp option" && hasOption(machine, type);
    if (flags.includes("present")) machine.storeNumber(word, there ? 1 : 0);
    else if (!there) return BREAK;
    else machine.storeUnknown(word, length, `TCP option ${type}`);
    return CONTINUE;
  };
}

/** Whether the packet has a TCP option, by its kind. */
export function hasOption({ packet }: Machine, option: number): boolean {
  return packet.protocol === "tcp" && (packet.tcpFlags & TCP_FLAG.syn) !== 0 && SYN_OPTIONS.has(option);
}

export function compileRt(expression: ExpressionKinded<"rt">): Step {
  const word = registerWord(expression.dreg);
  return (machine) => {
    const { packet } = machine;
    switch (expression.key) {
      case "classid":
        machine.storeNumber(word, 0);
        return CONTINUE;
      case "ipsec":
        machine.storeNumber(word, machine.encryptedBy === undefined ? 0 : 1);
        return CONTINUE;
      case "ip nexthop":
      case "ip6 nexthop": {
        if ((expression.key === "ip nexthop") !== (packet.family === 4)) return BREAK;
        machine.store(word, ipBytes(machine.nextHop ?? packet.destination));
        return CONTINUE;
      }
      default:
        machine.storeUnknown(word, 4, `rt ${expression.key}`);
        return CONTINUE;
    }
  };
}

export function compileSocket(expression: ExpressionKinded<"socket">): Step {
  const word = registerWord(expression.dreg);
  return (machine) => {
    // A forwarded packet finds no socket of this namespace unless something listens transparently.
    if (machine.packet.iif !== undefined && machine.hook !== "input") return BREAK;
    machine.storeUnknown(word, 4, `socket ${expression.key}`);
    return CONTINUE;
  };
}
