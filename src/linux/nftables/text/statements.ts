/** Expressions that act rather than look: NAT, logs, rejects, marks, queues. Each as its nft text. */
import type { Expression, ExpressionKinded } from "../expressions.ts";
import type { Family } from "../ruleset.ts";
import { decodeExtension, extensionText } from "../../xtables/extension.ts";
import { ICMPX_CODES, type Symbols } from "../symbols.ts";
import { formatValue, quoted, type Names } from "./format.ts";
import { sized } from "./loads.ts";
import { maskedText } from "./matches.ts";
import { concatText, type Registers, type Value } from "./registers.ts";
import { synproxyFlags } from "./stateful.ts";
import { bytesOfHex } from "../../../platform/bytes.ts";
import { ICMP_CODES, ICMPV6_CODES } from "../../icmp.ts";
import { present } from "../../../present.ts";

/** What the writers of statements need. */
export interface StatementContext {
  readonly family: Family;
  readonly registers: Registers;
  readonly names: Names;
}

/** The value in a register as the operand of a statement; bytes are shown as `type` has them. */
export function operandText(
  context: StatementContext,
  register: number | undefined,
  type: string,
  size: number,
): string {
  const value = register === undefined ? undefined : context.registers.at(register);
  if (value === undefined) return `/* register ${register ?? "?"} */`;
  if (value.data !== undefined) {
    return formatValue(sized(type, size), value.data.slice(0, size * 2), context.names, value.bigEndian);
  }
  return maskedText(value, context.names);
}

/** `0` for unknown names, the first one for codes with several. */
function codeName(symbols: Symbols, code: number): string {
  return Object.entries(symbols).find(([, number]) => number === code)?.[0] ?? String(code);
}

export function rejectText(reject: ExpressionKinded<"reject">, family: Family, isIpv6: boolean): string {
  const code = reject.code ?? 0;
  if (reject.type === "tcp reset") return "reject with tcp reset";
  if (reject.type === "icmpx") {
    return code === ICMPX_CODES["port-unreachable"]
      ? "reject"
      : `reject with icmpx ${codeName(ICMPX_CODES, code)}`;
  }
  const ipv6 = family === "ip6" || (family !== "ip" && isIpv6);
  const unreachable = ipv6 ? ICMPV6_CODES["port-unreachable"] : ICMP_CODES["port-unreachable"];
  if (code === unreachable && (family === "ip" || family === "ip6")) return "reject";
  return ipv6
    ? `reject with icmpv6 ${codeName(ICMPV6_CODES, code)}`
    : `reject with icmp ${codeName(ICMP_CODES, code)}`;
}

export function logText(log: ExpressionKinded<"log">): string {
  let text = "log";
  if (log.prefix !== undefined && log.prefix !== "") text += ` prefix ${quoted(log.prefix)}`;
  if (log.group !== undefined) {
    text += ` group ${log.group}`;
    if (log.snaplen !== undefined && log.snaplen > 0) text += ` snaplen ${log.snaplen}`;
    if (log.queueThreshold !== undefined && log.queueThreshold > 0)
      text += ` queue-threshold ${log.queueThreshold}`;
    return text;
  }
  if (log.level !== undefined && log.level !== "warn") text += ` level ${log.level}`;
  return text + logFlags(log.flags ?? []);
}

function logFlags(flags: readonly string[]): string {
  const has = (flag: string): boolean => flags.includes(flag);
  if (["tcp sequence", "tcp options", "ip options", "skuid", "ether"].every(has)) return " flags all";
  const tcp = ["sequence", "options"].filter((part) => has(`tcp ${part}`));
  return [
    tcp.length > 0 ? ` flags tcp ${tcp.join(",")}` : "",
    has("ip options") ? " flags ip options" : "",
    has("skuid") ? " flags skuid" : "",
    has("ether") ? " flags ether" : "",
  ].join("");
}

// ── NAT ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function natFlagsText(flags: readonly string[] | undefined): string {
  const shown = ["random", "fully-random", "persistent"].filter((flag) => flags?.includes(flag) === true);
  return shown.length === 0 ? "" : ` ${shown.join(",")}`;
}

/** Ports of a NAT statement: `1024-65535`, or a value looked up. */
function portsText(
  context: StatementContext,
  min: number | undefined,
  max: number | undefined,
): string | undefined {
  if (min === undefined) return undefined;
  const first = operandText(context, min, "inet_service", 2);
  if (max === undefined || max === min) return first;
  return `${first}-${operandText(context, max, "inet_service", 2)}`;
}

export function masqueradeText(context: StatementContext, masq: ExpressionKinded<"masq">): string {
  const ports = portsText(context, masq.sregProtoMin, masq.sregProtoMax);
  return `masquerade${ports === undefined ? "" : ` to :${ports}`}${natFlagsText(masq.flags)}`;
}

export function redirectText(context: StatementContext, redir: ExpressionKinded<"redir">): string {
  const ports = portsText(context, redir.sregProtoMin, redir.sregProtoMax);
  return `redirect${ports === undefined ? "" : ` to :${ports}`}${natFlagsText(redir.flags)}`;
}

/** The map that a register lies in, when a look-up filled it: then the map says address, port and range at once. */
function mapBehind(context: StatementContext, register: number | undefined): Value | undefined {
  if (register === undefined) return undefined;
  const found = context.registers.within(register)?.value;
  return found?.data === undefined ? found : undefined;
}

export function natText(context: StatementContext, nat: ExpressionKinded<"nat">): string {
  const map = mapBehind(context, nat.sregAddrMin);
  const prefix = nat.flags?.includes("netmap") === true ? " prefix" : "";
  const needsFamily =
    context.family === "inet" ||
    (map !== undefined && (map.types.length > 1 || map.isRange === true || prefix !== ""));
  const family = needsFamily && nat.family !== "unspec" && nat.family !== "inet" ? ` ${nat.family}` : "";
  const flags = natFlagsText(nat.flags);
  const head = `${nat.type}${family}${prefix} to`;
  if (map !== undefined) {
    const sameMap = nat.sregProtoMin === undefined || mapBehind(context, nat.sregProtoMin) === map;
    const ports = sameMap ? undefined : portsText(context, nat.sregProtoMin, nat.sregProtoMax);
    return `${head} ${maskedText(map, context.names)}${ports === undefined ? "" : `:${ports}`}${flags}`;
  }
  const ports = portsText(context, nat.sregProtoMin, nat.sregProtoMax);
  const address = natAddress(context, nat, prefix !== "");
  return `${nat.type}${address === undefined ? "" : family}${prefix} to ${address ?? ""}${ports === undefined ? "" : `:${ports}`}${flags}`;
}

function natAddress(
  context: StatementContext,
  nat: ExpressionKinded<"nat">,
  isPrefix: boolean,
): string | undefined {
  if (nat.sregAddrMin === undefined) return undefined;
  const isIpv6 = nat.family === "ip6";
  const type = isIpv6 ? "ipv6_addr" : "ipv4_addr";
  const size = isIpv6 ? 16 : 4;
  const hasPorts = nat.sregProtoMin !== undefined;
  const bracket = (text: string): string => (isIpv6 && hasPorts ? `[${text}]` : text);
  const first = operandText(context, nat.sregAddrMin, type, size);
  if (nat.sregAddrMax === undefined || nat.sregAddrMax === nat.sregAddrMin) return bracket(first);
  const last = operandText(context, nat.sregAddrMax, type, size);
  if (isPrefix) {
    const low = context.registers.at(nat.sregAddrMin)?.data;
    const high = context.registers.at(nat.sregAddrMax)?.data;
    if (low !== undefined && high !== undefined) return `${first}/${sharedBits(low, high)}`;
  }
  return `${bracket(first)}-${bracket(last)}`;
}

function sharedBits(low: string, high: string): number {
  const differing = BigInt(`0x${low}`) ^ BigInt(`0x${high}`);
  return low.length * 4 - (differing === 0n ? 0 : differing.toString(2).length);
}

export function tproxyText(context: StatementContext, tproxy: ExpressionKinded<"tproxy">): string {
  const family =
    context.family === "inet" && (tproxy.family === "ip" || tproxy.family === "ip6")
      ? ` ${tproxy.family}`
      : "";
  const isIpv6 = tproxy.family === "ip6";
  const address =
    tproxy.sregAddr === undefined
      ? ""
      : operandText(context, tproxy.sregAddr, isIpv6 ? "ipv6_addr" : "ipv4_addr", isIpv6 ? 16 : 4);
  const port =
    tproxy.sregPort === undefined ? "" : `:${operandText(context, tproxy.sregPort, "inet_service", 2)}`;
  return `tproxy${family} to ${isIpv6 && address !== "" && port !== "" ? `[${address}]` : address}${port}`;
}

// ── The rest ─────────────────────────────────────────────────────────────────────────────────────────────────────

export function duplicateText(context: StatementContext, dup: ExpressionKinded<"dup">): string {
  const device = dup.sregDev === undefined ? "" : operandText(context, dup.sregDev, "iface_index", 4);
  if (dup.sregAddr === undefined) return `dup to ${device}`;
  const isIpv6 = context.family === "ip6";
  const address = operandText(context, dup.sregAddr, isIpv6 ? "ipv6_addr" : "ipv4_addr", isIpv6 ? 16 : 4);
  return `dup to ${address}${device === "" ? "" : ` device ${device}`}`;
}

export function forwardText(context: StatementContext, fwd: ExpressionKinded<"fwd">): string {
  const device = operandText(context, fwd.sregDev, "iface_index", 4);
  if (fwd.sregAddr === undefined) return `fwd to ${device}`;
  const isIpv6 = fwd.family === "ip6";
  const address = operandText(context, fwd.sregAddr, isIpv6 ? "ipv6_addr" : "ipv4_addr", isIpv6 ? 16 : 4);
  return `fwd ${isIpv6 ? "ip6" : "ip"} to ${address} device ${device}`;
}

export function queueText(context: StatementContext, queue: ExpressionKinded<"queue">): string {
  const flags = queue.flags ?? [];
  const flagText = flags.length === 0 ? "" : ` flags ${flags.join(",")}`;
  if (queue.sregNumber !== undefined) {
    return `queue${flagText} to ${operandText(context, queue.sregNumber, "integer", 2)}`;
  }
  const first = queue.number ?? 0;
  const total = queue.total ?? 1;
  return `queue${flagText} to ${total > 1 ? `${first}-${first + total - 1}` : first}`;
}

export function synproxyText(synproxy: ExpressionKinded<"synproxy">): string {
  const mss = synproxy.flags?.includes("mss") === true ? ` mss ${synproxy.mss ?? 0}` : "";
  const wscale = synproxy.flags?.includes("wscale") === true ? ` wscale ${synproxy.wscale ?? 0}` : "";
  const flags = synproxyFlags(synproxy.flags ?? []);
  return `synproxy${mss}${wscale}${flags === "" ? "" : ` ${flags}`}`;
}

/** `counter name "x"`, `ct helper set "ftp"`, or with a map `counter name ip saddr map @m`. */
export function objectRefText(
  objref: ExpressionKinded<"objref">,
  mapped:
    | { readonly type: string | undefined; readonly left: readonly Value[]; readonly map: string }
    | undefined,
): string {
  const words: Readonly<Record<string, string>> = {
    counter: "counter name",
    quota: "quota name",
    limit: "limit name",
    connlimit: "ct count name",
    synproxy: "synproxy name",
    "ct helper": "ct helper set",
    "ct timeout": "ct timeout set",
    "ct expectation": "ct expectation set",
    secmark: "meta secmark set",
  };
  const type = objref.type ?? mapped?.type ?? "object";
  const head = words[type] ?? `/* ${type} */`;
  if (objref.name !== undefined) return `${head} ${quoted(objref.name)}`;
  return `${head} ${concatText(mapped?.left ?? [])} map ${mapped?.map ?? "?"}`;
}

/** An xtables match or target, as iptables would have it: nft has no words for it. */
export function compatText(
  expression: ExpressionKinded<"match"> | ExpressionKinded<"target">,
  family: Family,
  { ipsets }: Names,
): string {
  const { kind, name, revision } = expression;
  const bytes = bytesOfHex(expression.info);
  const context = present({ family: family === "ip6" ? "ip6" : "ip", ipsets });
  const text = extensionText(decodeExtension(kind, name, revision, bytes, context), context);
  return `/* xt ${text.replaceAll("/* ", "(").replaceAll(" */", ")")} */`;
}

export function unknownText(expression: Extract<Expression, { readonly kind: "other" }>): string {
  return `/* ${expression.name} ${expression.data.length / 2} bytes */`;
}
