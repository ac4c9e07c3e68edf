/** Expressions and objects with state: counters, limits, quotas. */
import { TCP_TIMEOUTS_S, UDP_TIMEOUTS_S } from "../../conntrack/timeouts.ts";
import type { StatefulExpression } from "../expressions.ts";
import type { NftObject } from "../ruleset.ts";
import { symbolName } from "../symbols.ts";
import { formatDuration, quoted } from "./format.ts";
import type { TextOptions } from "./scope.ts";
import { NFPROTO } from "../../netfilter.ts";
import { IP_PROTOCOL } from "../../ip-protocol.ts";

const UNITS: Readonly<Record<number, string>> = {
  1: "second",
  60: "minute",
  3600: "hour",
  86400: "day",
  604800: "week",
};

/** Bytes in the largest unit that divides them: nft's kbytes and mbytes. */
function bytesText(bytes: number): string {
  if (bytes >= 1024 * 1024 && bytes % (1024 * 1024) === 0) return `${bytes / (1024 * 1024)} mbytes`;
  if (bytes >= 1024 && bytes % 1024 === 0) return `${bytes / 1024} kbytes`;
  return `${bytes} bytes`;
}

function limitText(limit: {
  readonly rate: number;
  readonly unitSeconds: number;
  readonly burst: number;
  readonly isBytes: boolean;
  readonly over: boolean;
}): string {
  const unit = UNITS[limit.unitSeconds] ?? `${limit.unitSeconds}s`;
  const over = limit.over ? "over " : "";
  if (limit.isBytes) {
    const burst = limit.burst > 0 ? ` burst ${bytesText(limit.burst)}` : "";
    return `limit rate ${over}${bytesText(limit.rate)}/${unit}${burst}`;
  }
  // nft's default, and the kernel's: not written.
  const burst = limit.burst > 0 && limit.burst !== 5 ? ` burst ${limit.burst} packets` : "";
  return `limit rate ${over}${limit.rate}/${unit}${burst}`;
}

export function statefulText(expression: StatefulExpression, options: TextOptions): string {
  switch (expression.kind) {
    case "counter":
      return options.stateless === true
        ? "counter"
        : `counter packets ${expression.packets} bytes ${expression.bytes}`;
    case "limit":
      return limitText({
        rate: expression.rate,
        unitSeconds: expression.unitSeconds,
        burst: expression.burst ?? 0,
        isBytes: expression.type === "bytes",
        over: expression.flags?.includes("inv") === true,
      });
    case "quota": {
      const over = expression.flags?.includes("inv") === true ? "over " : "";
      const used =
        options.stateless === true || (expression.consumed ?? 0) === 0
          ? ""
          : ` used ${bytesText(expression.consumed!)}`;
      return `quota ${over}${bytesText(expression.bytes)}${used}`;
    }
    case "connlimit":
      return `ct count ${expression.flags?.includes("inv") === true ? "over " : ""}${expression.count}`;
    case "last":
      if (options.stateless === true) return "last";
      return (expression.set ?? 0) === 0 ? "last used never" : `last used ${expression.msecs ?? 0}ms`;
    case "other":
      return `/* ${expression.name} ${expression.data.length / 2} bytes */`;
  }
}

const L3: Readonly<Record<number, string>> = {
  [NFPROTO.inet]: "inet",
  [NFPROTO.ipv4]: "ip",
  [NFPROTO.ipv6]: "ip6",
  [NFPROTO.bridge]: "bridge",
};

/** States of ct timeout by protocol, as nft names them; the index is CTA_TIMEOUT_*. */
const TIMEOUT_STATES: Readonly<Record<number, readonly (string | undefined)[]>> = {
  [IP_PROTOCOL.tcp]: [
    undefined,
    "syn_sent",
    "syn_recv",
    "established",
    "fin_wait",
    "close_wait",
    "last_ack",
    "time_wait",
    "close",
    undefined,
    "retrans",
    "unack",
  ],
  [IP_PROTOCOL.udp]: [undefined, "unreplied", "replied"],
};

/** What nft takes for the kernel's defaults, in seconds: it writes only what differs from them. */
const TIMEOUT_DEFAULTS: Readonly<Record<string, number>> = {
  ...TCP_TIMEOUTS_S,
  retrans: 300,
  unack: 300,
  unreplied: UDP_TIMEOUTS_S.unreplied,
  // The kernel's before Linux 4.20 (UDP_TIMEOUTS_S has what it is since).
  replied: 180,
};

function timeoutLine(object: Extract<NftObject, { readonly type: "ct timeout" }>): string {
  const names = TIMEOUT_STATES[object.l4proto] ?? [];
  const parts = Object.entries(object.timeouts).flatMap(([state, seconds]) => {
    const name = names[Number(state)];
    return name === undefined || TIMEOUT_DEFAULTS[name] === seconds ? [] : [`${name} : ${seconds}`];
  });
  return `policy = { ${parts.join(", ")} }`;
}

/** The lines of an object, without indentation. */
export function objectLines(object: NftObject, options: TextOptions): string[] {
  const handle = options.handles === true ? ` # handle ${object.handle}` : "";
  const kind = object.type === "other" ? `object /* type ${object.number} */` : object.type;
  const lines = [`${kind} ${object.name} {${handle}`];
  if (object.comment !== undefined) lines.push(`\tcomment ${quoted(object.comment)}`);
  lines.push(...bodyLines(object, options).map((line) => `\t${line}`), "}");
  return lines;
}

function bodyLines(object: NftObject, options: TextOptions): string[] {
  const l4 = (number: number): string => symbolName("inet_proto", number) ?? String(number);
  switch (object.type) {
    case "counter":
      return options.stateless === true ? [] : [`packets ${object.packets} bytes ${object.bytes}`];
    case "quota": {
      const over = object.flags.includes("inv") ? "over " : "";
      const used =
        options.stateless === true || object.consumed === 0 ? "" : ` used ${bytesText(object.consumed)}`;
      return [`${over}${bytesText(object.bytes)}${used}`];
    }
    case "limit":
      return [
        limitText({
          rate: object.rate,
          unitSeconds: object.unitSeconds,
          burst: object.burst,
          isBytes: object.per === "bytes",
          over: object.over,
        }).slice("limit ".length),
      ];
    case "connlimit":
      return [`ct count ${object.over ? "over " : ""}${object.count}`];
    case "ct helper":
      return [
        `type ${quoted(object.helper)} protocol ${l4(object.l4proto)}`,
        `l3proto ${L3[object.l3proto] ?? object.l3proto}`,
      ];
    case "ct timeout":
      return [
        `protocol ${l4(object.l4proto)}`,
        `l3proto ${L3[object.l3proto] ?? object.l3proto}`,
        timeoutLine(object),
      ];
    case "ct expectation":
      return [
        `protocol ${l4(object.l4proto)}`,
        `dport ${object.dport}`,
        `timeout ${formatDuration(object.timeoutMs)}`,
        `size ${object.size}`,
        `l3proto ${L3[object.l3proto] ?? object.l3proto}`,
      ];
    case "secmark":
      return [quoted(object.context)];
    case "synproxy":
      return [`mss ${object.mss}`, `wscale ${object.wscale}`, synproxyFlags(object.flags)].filter(
        (line) => line !== "",
      );
    case "other":
      return [`/* ${object.data} */`];
  }
}

/** `timestamp sack-perm` */
export function synproxyFlags(flags: readonly string[]): string {
  return [flags.includes("timestamp") ? "timestamp" : "", flags.includes("sack-perm") ? "sack-perm" : ""]
    .filter((part) => part !== "")
    .join(" ");
}
