/**
 * Rules that iptables-nft made, as iptables-save writes them. What iptables has modules for and nf_tables expressions
 * of its own (addresses, interfaces, ports, marks, limits) is stored as the latter; the rest as xtables matches and
 * targets.
 */
import {
  decodeExtension,
  extensionText,
  optionText,
  type XtContext,
  type XtFamily,
} from "../../xtables/extension.ts";
import { maskedAddress } from "../../xtables/info.ts";
import { rateOf } from "../../xtables/matches/rates.ts";
import { tcpFlagNames } from "../../xtables/matches/transport.ts";
import type { Expression, ExpressionKinded } from "../expressions.ts";
import type { Family, Rule, Table } from "../ruleset.ts";
import { symbolName } from "../symbols.ts";
import type { Verdict } from "../values.ts";
import { stringOf } from "./format.ts";
import { bytesOfHex, decodeUtf8, hexOf } from "../../../platform/bytes.ts";
import { present } from "../../../present.ts";

export interface IptablesOptions {
  /** Names of ipsets by index, which is all that rules hold of them. */
  readonly ipsets?: ReadonlyMap<number, string>;
  /** Begins with the counters, `[packets:bytes]`, as `iptables-save -c` does. */
  readonly counters?: boolean;
}

const TABLES: ReadonlySet<string> = new Set(["filter", "nat", "mangle", "raw", "security"]);

/** Whether a table is one of those that iptables-nft keeps: its rules are best shown by iptablesText. */
export function isIptablesTable(table: Pick<Table, "family" | "name" | "chains">): boolean {
  if (table.family !== "ip" && table.family !== "ip6") return false;
  if (!TABLES.has(table.name)) return false;
  return table.chains.every(
    (chain) => chain.base === undefined || chain.name === chain.base.hook.toUpperCase(),
  );
}

/** What was loaded into a register, and the mask laid over it. */
interface Loaded {
  readonly expression: Expression;
  readonly mask?: string;
}

type HeaderOption = "source" | "destination" | "in" | "out" | "protocol" | "fragment";

/** The order in which iptables-save writes what every rule can have. */
const HEADER_OPTIONS: readonly HeaderOption[] = [
  "source",
  "destination",
  "in",
  "out",
  "protocol",
  "fragment",
];

class IptablesWriter {
  readonly #common = new Map<HeaderOption, string>();
  readonly #matches: string[] = [];
  readonly #registers = new Map<number, Loaded>();
  /** Options of `-m tcp` and its like, and where in #matches they go. */
  #transport: { readonly at: number; readonly options: string[] } | undefined;
  #protocol = "";
  #target: string | undefined;
  #counter = "";
  readonly #context: XtContext;
  /** Whether iptables has a word for everything in the rule. */
  isIptables = true;

  constructor(
    readonly family: XtFamily,
    options: IptablesOptions,
  ) {
    this.#context = present({ family, ipsets: options.ipsets });
  }

  write(rule: Rule, counters: boolean): string {
    for (let index = 0; index < rule.expressions.length; index++) {
      const expression = rule.expressions[index]!;
      const next = rule.expressions[index + 1];
      if (expression.kind === "cmp" && this.#portRange(expression, next)) index++;
      else this.#expression(expression);
    }
    if (this.#transport !== undefined) {
      this.#matches[this.#transport.at] = `-m ${this.#protocol} ${this.#transport.options.join(" ")}`;
    }
    const parts = [
      ...(counters && this.#counter !== "" ? [this.#counter] : []),
      ...HEADER_OPTIONS.flatMap((place) => this.#common.get(place) ?? []),
      ...this.#matches,
      ...(this.#target === undefined ? [] : [this.#target]),
    ];
    return parts.join(" ");
  }

  #expression(expression: Expression): void {
    switch (expression.kind) {
      case "payload":
      case "meta":
        if (expression.kind === "meta" && expression.key === "nftrace" && expression.sreg !== undefined) {
          this.#target = "-j TRACE";
          return undefined;
        }
        if (expression.dreg === undefined) return this.#unknown(expression);
        this.#registers.set(expression.dreg, { expression });
        return undefined;
      case "bitwise":
        return this.#bitwise(expression);
      case "cmp":
        return this.#compare(expression);
      case "range":
        return this.#range(expression);
      case "counter":
        this.#counter = `[${expression.packets}:${expression.bytes}]`;
        return undefined;
      case "immediate":
        if ("verdict" in expression.data) this.#target = verdictTarget(expression.data);
        else this.#registers.set(expression.dreg, { expression });
        return undefined;
      case "match":
        this.#matches.push(this.#extension(expression));
        return undefined;
      case "target":
        this.#target = this.#extension(expression);
        return undefined;
      case "limit":
        this.#matches.push(limitText(expression));
        return undefined;
      case "log":
        this.#target = logTarget(expression);
        return undefined;
      default:
        return this.#unknown(expression);
    }
  }

  #unknown(expression: Expression): void {
    this.isIptables = false;
    this.#matches.push(`/* ${expression.kind === "other" ? expression.name : expression.kind} */`);
  }

  #extension(expression: ExpressionKinded<"match"> | ExpressionKinded<"target">): string {
    const bytes = bytesOfHex(expression.info);
    const { kind, name, revision } = expression;
    return extensionText(decodeExtension(kind, name, revision, bytes, this.#context), this.#context);
  }

  #bitwise(expression: ExpressionKinded<"bitwise">): void {
    const loaded = this.#registers.get(expression.sreg);
    if (loaded === undefined || expression.mask === undefined) return this.#unknown(expression);
    this.#registers.set(expression.dreg, { expression: loaded.expression, mask: expression.mask });
  }

  #set(place: HeaderOption, option: string, value: string, op: string): void {
    this.#common.set(place, `${op === "!=" ? "! " : ""}${option}${value === "" ? "" : ` ${value}`}`);
  }

  #compare(expression: ExpressionKinded<"cmp">): void {
    const loaded = this.#registers.get(expression.sreg);
    if (loaded?.expression.kind === "meta")
      return this.#compareMeta(loaded, loaded.expression.key, expression);
    if (loaded?.expression.kind === "payload")
      return this.#comparePayload(loaded, loaded.expression, expression);
    return this.#unknown(expression);
  }

  #compareMeta(loaded: Loaded, key: string, { op, data }: ExpressionKinded<"cmp">): void {
    switch (key) {
      case "iifname":
        return this.#set("in", "-i", interfaceText(data), op);
      case "oifname":
        return this.#set("out", "-o", interfaceText(data), op);
      case "l4proto":
        return this.#protocolIs(data, op);
      case "mark": {
        const mark = Number.parseInt(turned(data), 16);
        const mask =
          loaded.mask === undefined ? "" : `/0x${Number.parseInt(turned(loaded.mask), 16).toString(16)}`;
        this.#matches.push(`-m mark ${op === "!=" ? "! " : ""}--mark 0x${mark.toString(16)}${mask}`);
        return undefined;
      }
      default:
        return this.#unknown(loaded.expression);
    }
  }

  #protocolIs(data: string, op: string): void {
    this.#protocol = protocolName(Number.parseInt(data, 16));
    this.#set("protocol", "-p", this.#protocol, op);
  }

  #comparePayload(loaded: Loaded, payload: ExpressionKinded<"payload">, cmp: ExpressionKinded<"cmp">): void {
    const { offset, base } = payload;
    const [source, destination, protocol] = this.family === "ip" ? [12, 16, 9] : [8, 24, 6];
    if (base === "network") {
      if (offset === source) return this.#set("source", "-s", this.#address(cmp.data, loaded.mask), cmp.op);
      if (offset === destination)
        return this.#set("destination", "-d", this.#address(cmp.data, loaded.mask), cmp.op);
      if (offset === protocol) return this.#protocolIs(cmp.data, cmp.op);
      if (this.family === "ip" && offset === 6)
        return this.#set("fragment", "-f", "", cmp.op === "==" ? "!=" : "==");
    }
    if (base === "transport" && offset <= 2) return this.#port(offset, cmp.op, Number.parseInt(cmp.data, 16));
    if (base === "transport" && offset === 13 && loaded.mask !== undefined) {
      const flags = `${tcpFlagNames(Number.parseInt(loaded.mask, 16))} ${tcpFlagNames(Number.parseInt(cmp.data, 16))}`;
      return this.#transportOption(`${cmp.op === "!=" ? "! " : ""}--tcp-flags ${flags}`);
    }
    return this.#unknown(payload);
  }

  #address(data: string, mask: string | undefined): string {
    const size = this.family === "ip" ? 4 : 16;
    const bytes = new Uint8Array(size);
    bytes.set(bytesOfHex(data).subarray(0, size));
    const whole = mask ?? "ff".repeat(Math.min(size, data.length / 2));
    const maskBytes = new Uint8Array(size);
    maskBytes.set(bytesOfHex(whole).subarray(0, size));
    return maskedAddress(bytes, maskBytes);
  }

  #transportOption(option: string): void {
    if (this.#transport === undefined) {
      this.#transport = { at: this.#matches.length, options: [] };
      this.#matches.push("");
    }
    this.#transport.options.push(option);
  }

  #port(offset: number, op: string, port: number): void {
    const text =
      op === ">="
        ? `${port}:65535`
        : op === "<="
          ? `0:${port}`
          : op === "<"
            ? `0:${port - 1}`
            : op === ">"
              ? `${port + 1}:65535`
              : String(port);
    this.#transportOption(`${op === "!=" ? "! " : ""}${offset === 0 ? "--sport" : "--dport"} ${text}`);
  }

  /** Two comparisons that make one range of ports. */
  #portRange(first: ExpressionKinded<"cmp">, next: Expression | undefined): boolean {
    if (first.op !== ">=" || next?.kind !== "cmp" || next.op !== "<=" || next.sreg !== first.sreg)
      return false;
    const loaded = this.#registers.get(first.sreg)?.expression;
    if (loaded?.kind !== "payload" || loaded.base !== "transport" || loaded.offset > 2) return false;
    this.#ports(loaded.offset, "==", first.data, next.data);
    return true;
  }

  #range(expression: ExpressionKinded<"range">): void {
    const loaded = this.#registers.get(expression.sreg)?.expression;
    if (loaded?.kind !== "payload" || loaded.base !== "transport" || loaded.offset > 2)
      return this.#unknown(expression);
    return this.#ports(loaded.offset, expression.op, expression.from, expression.to);
  }

  #ports(offset: number, op: string, from: string, to: string): void {
    const text = `${Number.parseInt(from, 16)}:${Number.parseInt(to, 16)}`;
    this.#transportOption(`${op === "!=" ? "! " : ""}${offset === 0 ? "--sport" : "--dport"} ${text}`);
  }
}

function turned(hex: string): string {
  return hexOf(bytesOfHex(hex).toReversed());
}

/** A name that ends without a NUL, or is shorter than a whole name, is the beginning of names. */
function interfaceText(data: string): string {
  const isWhole = data.length === 32 || data.endsWith("00");
  return isWhole ? stringOf(data) : `${decodeUtf8(bytesOfHex(data))}+`;
}

function protocolName(number: number): string {
  return symbolName("inet_proto", number) ?? String(number);
}

function verdictTarget(verdict: Verdict): string {
  if (verdict.verdict === "jump") return `-j ${verdict.chain ?? ""}`;
  if (verdict.verdict === "goto") return `-g ${verdict.chain ?? ""}`;
  if (verdict.verdict === "queue") return `-j NFQUEUE --queue-num ${verdict.argument ?? 0}`;
  return `-j ${verdict.verdict.toUpperCase()}`;
}

function limitText(limit: ExpressionKinded<"limit">): string {
  const rate = rateOf((limit.unitSeconds * 10_000) / limit.rate, 10_000).text;
  const burst = limit.burst === undefined || limit.burst === 5 ? "" : ` --limit-burst ${limit.burst}`;
  return `-m limit --limit ${rate}${burst}`;
}

function logTarget(log: ExpressionKinded<"log">): string {
  const isGroup = log.group !== undefined;
  const options = [
    ...(log.prefix === undefined || log.prefix === ""
      ? []
      : [optionText({ option: isGroup ? "--nflog-prefix" : "--log-prefix", value: log.prefix })]),
    ...(log.group === undefined || log.group === 0 ? [] : [`--nflog-group ${log.group}`]),
    ...(log.snaplen === undefined || log.snaplen === 0 ? [] : [`--nflog-size ${log.snaplen}`]),
    ...(log.queueThreshold === undefined || log.queueThreshold <= 1
      ? []
      : [`--nflog-threshold ${log.queueThreshold}`]),
  ];
  return [`-j ${isGroup ? "NFLOG" : "LOG"}`, ...options].join(" ");
}

/** A rule as `-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE`: what follows `-A CHAIN` in iptables-save. */
export function iptablesText(rule: Rule, family: Family, options: IptablesOptions = {}): string {
  return writerFor(family, options).write(rule, options.counters === true);
}

/** The same; undefined for a rule that nft put into a table of iptables, which has no words for all of it. */
export function iptablesWords(rule: Rule, family: Family, options: IptablesOptions = {}): string | undefined {
  const writer = writerFor(family, options);
  const text = writer.write(rule, options.counters === true);
  return writer.isIptables ? text : undefined;
}

function writerFor(family: Family, options: IptablesOptions): IptablesWriter {
  return new IptablesWriter(family === "ip6" ? "ip6" : "ip", options);
}
