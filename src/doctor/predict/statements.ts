/** Expressions that act: verdicts, NAT, reject, and those whose outcome depends on time or on other packets. */
import { ipText } from "../../address/ip.ts";
import type { ExpressionKinded, StatefulExpression } from "../../linux/nftables/expressions.ts";
import type { NftObject, Table } from "../../linux/nftables/ruleset.ts";
import { AF_INET } from "../../linux/socket.ts";
import { Flow } from "./flow.ts";
import { TCP_FLAG } from "../../linux/tcp.ts";
import { PROTOCOL_NUMBER } from "./packet.ts";
import { registerWord } from "../../linux/nftables/registers.ts";
import { decide } from "./comparisons.ts";
import { takeByProxy } from "./listeners.ts";
import { countMatches } from "./xtables/rates.ts";
import { BREAK, CONTINUE, type Machine, type NatRange, type Step, type StepResult } from "./machine.ts";
import { present } from "../../present.ts";

export function compileImmediate(expression: ExpressionKinded<"immediate">): Step {
  const { dreg, data } = expression;
  if ("value" in data) {
    const word = registerWord(dreg);
    const bytes = Buffer.from(data.value, "hex");
    return (machine) => {
      machine.store(word, bytes);
      return CONTINUE;
    };
  }
  const result =
    data.chain === undefined ? { verdict: data.verdict } : { verdict: data.verdict, chain: data.chain };
  return () => result;
}

/** How the ICMP codes of `reject with icmp` are called; icmpx numbers are nf_tables' own. */
const REJECTIONS: Readonly<Record<string, readonly string[]>> = {
  icmpx: ["no-route", "port-unreachable", "host-unreachable", "admin-prohibited"],
};

export function compileReject(expression: ExpressionKinded<"reject">): Step {
  const { type, code = 0 } = expression;
  const action =
    type === "tcp reset"
      ? "reject with tcp reset"
      : `reject with ${type} ${REJECTIONS[type]?.[code] ?? code}`;
  return () => ({ verdict: "drop", action });
}

export function compileMasquerade(expression: ExpressionKinded<"masq">): Step {
  const firstPort = portOf(expression.sregProtoMin);
  const lastPort = portOf(expression.sregProtoMax ?? expression.sregProtoMin);
  return (machine) =>
    bind(machine, {
      manip: "source",
      masquerade: true,
      redirect: false,
      netmap: false,
      text: "masquerade",
      ...ports(machine, firstPort, lastPort),
    });
}

export function compileRedirect(expression: ExpressionKinded<"redir">): Step {
  const firstPort = portOf(expression.sregProtoMin);
  const lastPort = portOf(expression.sregProtoMax ?? expression.sregProtoMin);
  return (machine) =>
    bind(machine, {
      manip: "destination",
      masquerade: false,
      redirect: true,
      netmap: false,
      text: "redirect",
      ...ports(machine, firstPort, lastPort),
    });
}

export function compileNat(expression: ExpressionKinded<"nat">): Step {
  const manip = expression.type === "dnat" ? "destination" : "source";
  const word = expression.type === "dnat" ? "dnat" : "snat";
  const firstPort = portOf(expression.sregProtoMin);
  const lastPort = portOf(expression.sregProtoMax ?? expression.sregProtoMin);
  const first = expression.sregAddrMin === undefined ? undefined : registerWord(expression.sregAddrMin);
  const last = expression.sregAddrMax === undefined ? first : registerWord(expression.sregAddrMax);
  const netmap = expression.flags?.includes("netmap") === true;
  return (machine) => {
    const length = machine.packet.family === 4 ? 4 : 16;
    const why = first === undefined ? undefined : machine.whyUnknown(first, length);
    const addresses =
      first === undefined || last === undefined || why !== undefined
        ? {}
        : { first: ipText(machine.load(first, length)), last: ipText(machine.load(last, length)) };
    const port = ports(machine, firstPort, lastPort);
    return bind(machine, {
      manip,
      masquerade: false,
      redirect: false,
      netmap,
      text: `${word} to ${rangeText(addresses, port)}`,
      ...addresses,
      ...port,
      ...present({ unknown: why?.why }),
    });
  };
}

function rangeText(
  addresses: { readonly first?: string; readonly last?: string },
  port: { readonly firstPort?: number; readonly lastPort?: number },
): string {
  const { first = "", last } = addresses;
  const address = last === undefined || last === first ? first : `${first}-${last}`;
  if (port.firstPort === undefined) return address;
  const range = port.lastPort === port.firstPort ? `${port.firstPort}` : `${port.firstPort}-${port.lastPort}`;
  return `${address}:${range}`;
}

function portOf(register: number | undefined): number | undefined {
  return register === undefined ? undefined : registerWord(register);
}

function ports(
  machine: Machine,
  first: number | undefined,
  last: number | undefined,
): Pick<NatRange, "firstPort" | "lastPort"> {
  if (first === undefined || last === undefined) return {};
  if (machine.whyUnknown(first, 2) !== undefined || machine.whyUnknown(last, 2) !== undefined) return {};
  const read = (word: number): number => (machine.load(word, 2)[0]! << 8) | machine.load(word, 2)[1]!;
  return { firstPort: read(first), lastPort: read(last) };
}

/** A binding is decided once: the kernel then accepts in this chain. */
export function bind(machine: Machine, range: NatRange): StepResult {
  machine.wanted = range;
  return { verdict: "accept", action: range.text };
}

/** Expressions whose result depends on what came before: limits are usually not reached. */
export function compileStateful(expression: StatefulExpression, byKey = false): Step {
  switch (expression.kind) {
    case "counter":
    case "last":
      return () => CONTINUE;
    case "connlimit": {
      const over = expression.flags?.includes("inv") === true;
      return (machine) => (countMatches(machine, expression.count, over, byKey) ? CONTINUE : BREAK);
    }
    case "limit": {
      const what = `a rate limit of ${expression.rate} ${expression.type ?? "packets"} in ${expression.unitSeconds} s`;
      // "over" matches what exceeds; usually nothing does.
      const over = expression.flags?.includes("inv") === true;
      return (machine) => decide(machine, what, !over, "rate");
    }
    case "quota": {
      const over = expression.flags?.includes("inv") === true;
      const used = expression.consumed ?? 0;
      const matches = used >= expression.bytes === over;
      return () => (matches ? CONTINUE : BREAK);
    }
    case "other":
      return (machine) => decide(machine, `expression ${expression.name}`);
  }
}

export function compileDynset(expression: ExpressionKinded<"dynset">): Step {
  const inner =
    expression.expressions ?? (expression.expression === undefined ? [] : [expression.expression]);
  const steps = inner.map((one) => compileStateful(one, true));
  const inverted = expression.flags?.includes("inv") === true;
  return (machine) => {
    const broke = steps.some((step) => step(machine) === BREAK);
    return broke || inverted ? BREAK : CONTINUE;
  };
}

export function compileObject(expression: ExpressionKinded<"objref">, table: Table): Step {
  const object = table.objects.find((one) => one.name === expression.name);
  switch (object?.type) {
    case "limit": {
      const { rate, unitSeconds, per, over } = object;
      return (machine) =>
        decide(machine, `a rate limit of ${rate} ${per} in ${unitSeconds} s`, !over, "rate");
    }
    case "connlimit": {
      const { count, over } = object;
      return (machine) => (countMatches(machine, count, over, false) ? CONTINUE : BREAK);
    }
    case "quota": {
      const matches = object.consumed >= object.bytes === object.flags.includes("inv");
      return () => (matches ? CONTINUE : BREAK);
    }
    case "ct timeout":
      return (machine) => {
        giveTimeouts(machine, object);
        return CONTINUE;
      };
    default:
      return () => CONTINUE;
  }
}

/** nft_ct_timeout_obj_eval: a flow that conntrack has just begun, of the object's protocol. */
function giveTimeouts(
  { flow, packet, here }: Machine,
  { name, l3proto, l4proto, timeouts }: Extract<NftObject, { readonly type: "ct timeout" }>,
): void {
  const isOther =
    l4proto !== PROTOCOL_NUMBER[packet.protocol] || (l3proto === AF_INET) !== (packet.family === 4);
  if (flow === undefined || packet.state !== "new" || isOther) return;
  flow.timeouts = { by: here?.(), what: `ct timeout ${name}`, seconds: timeouts };
}

export function compileQueue(expression: ExpressionKinded<"queue">): Step {
  const number = expression.number ?? 0;
  return () => ({ verdict: "queue", action: `queue to the program behind queue ${number}` });
}

/** The sysctl by which conntrack takes a packet in the middle of an unknown connection for a part of one. */
export const TCP_LOOSE = "net.netfilter.nf_conntrack_tcp_loose";

/**
 * synproxy_tg4, nft_synproxy_do_eval: a SYN is answered in the destination's name. Only the packet that the client sends
 * next, which conntrack must not know, makes the proxy open the connection: tracked, from the node.
 */
export function proxySyn(machine: Machine): StepResult {
  const { packet, view } = machine;
  if (packet.protocol !== "tcp" || packet.tcpFlags !== TCP_FLAG.syn) return CONTINUE;
  const { source, destination, protocol, sourcePort, destinationPort } = packet;
  machine.flow ??= new Flow({ source, destination, protocol, sourcePort, destinationPort });
  machine.packet = { ...packet, state: "new" };
  if (view.sysctl(TCP_LOOSE) !== 0) return { verdict: "stolen", action: "synproxy" };
  machine.ask("what a SYN proxy sends on in the pod's name", true);
  return CONTINUE;
}

/** nft_notrack_eval: what conntrack has seen stays tracked. */
export function untrack(machine: Machine): void {
  if (machine.isTrackingDecided) return;
  machine.untrackedBy = machine.here?.();
  machine.packet = { ...machine.packet, state: "untracked" };
}

/** nft_tproxy_eval: the packet is a local socket's, if one listens that may take it; else the rule does not match. */
export function compileTproxy(expression: ExpressionKinded<"tproxy">): Step {
  const address = expression.sregAddr === undefined ? undefined : registerWord(expression.sregAddr);
  const port = expression.sregPort === undefined ? undefined : registerWord(expression.sregPort);
  return (machine) => {
    const length = machine.packet.family === 4 ? 4 : 16;
    const to = present({
      address: address === undefined ? undefined : ipText(machine.load(address, length)),
      port: port === undefined ? undefined : (machine.load(port, 2)[0]! << 8) | machine.load(port, 2)[1]!,
    });
    return takeByProxy(machine, to) ? CONTINUE : BREAK;
  };
}
