/** The filters of `wayout conntrack`, from the command line to a FlowFilter. */
import { command } from "../text/command.ts";
import { Option, type Command } from "commander";
import { parseCidr, type Cidr } from "../address/cidr.ts";
import { WayoutError } from "../error.ts";
import { DCCP_STATES, SCTP_STATES, TCP_STATES } from "../linux/conntrack/status.ts";
import { protocolNumber } from "../linux/ip-protocol.ts";
import { compileFlowFilter, isEmptyFilter } from "../flows/flow-filter.ts";
import type { CompiledFilter, DirectionFilter, FlowFilter } from "../flows/flow-filter.ts";
import type { PortRange } from "../linux/ip-protocol.ts";
import { present } from "../present.ts";

/** What commander makes of the filter options. */
export interface FilterOptions {
  state?: string[];
  proto?: string[];
  family?: string;
  src?: string[];
  dst?: string[];
  sport?: string[];
  dport?: string[];
  replySrc?: string[];
  replyDst?: string[];
  replySport?: string[];
  replyDport?: string[];
  pod?: string;
  nat?: boolean;
  snat?: boolean;
  dnat?: boolean;
  unreplied?: boolean;
  replied?: boolean;
  assured?: boolean;
  unassured?: boolean;
  offloaded?: boolean;
  mark?: string;
  zone?: string;
}

/** Options that the sub-commands share. */
export interface FlowTableOptions extends FilterOptions {
  netns?: string;
  json?: boolean;
}

const STATE_WORDS = ["unreplied", "replied", "assured"];
const STATES = [...new Set<string>([...TCP_STATES, ...SCTP_STATES, ...DCCP_STATES])];

/** Adds the filter options, and --netns, to a command. */
export function withFilters(command: Command): Command {
  const list = (value: string, previous: string[] = []): string[] => [...previous, ...value.split(",")];
  const many = (flags: string, text: string): Option => new Option(flags, text).argParser(list);
  command
    .addOption(
      many("--state <STATE>", "ESTABLISHED, SYN_SENT, … ; unreplied, replied or assured for UDP and ICMP"),
    )
    .addOption(many("--proto <PROTO>", "tcp, udp, icmp, sctp, … or a number"))
    .option("--family <4|6>", "IPv4 or IPv6 only");
  for (const [flag, alias, what] of [
    ["src", "orig-src", "the source of the flow"],
    ["dst", "orig-dst", "the destination of the flow"],
    ["reply-src", undefined, "the source of the answers: after DNAT the real target"],
    ["reply-dst", undefined, "the destination of the answers: after SNAT the outgoing address"],
  ] as const) {
    command.addOption(many(`--${flag} <CIDR>`, what));
    if (alias !== undefined) command.addOption(many(`--${alias} <CIDR>`, `the same as --${flag}`).hideHelp());
  }
  for (const [flag, alias, what] of [
    ["sport", "orig-sport", "source port, or a range: 1024-65535"],
    ["dport", "orig-dport", "destination port"],
    ["reply-sport", undefined, "source port of the answers"],
    ["reply-dport", undefined, "destination port of the answers: after SNAT the one that was chosen"],
  ] as const) {
    command.addOption(many(`--${flag} <PORTS>`, what));
    if (alias !== undefined)
      command.addOption(many(`--${alias} <PORTS>`, `the same as --${flag}`).hideHelp());
  }
  return command
    .option("--pod <POD>", "flows of a pod: a namespace's name, pid:N, container id, namespace/pod, address")
    .option("--nat", "translated flows only")
    .option("--snat", "with a translated source")
    .option("--dnat", "with a translated destination")
    .option("--unreplied", "flows without an answer")
    .option("--replied", "flows that were answered")
    .option("--assured", "flows that the kernel keeps when the table is full")
    .option("--unassured", "flows that it may delete then")
    .option("--offloaded", "flows that a flowtable forwards without asking the rules")
    .option("--mark <VALUE[/MASK]>", "by the connection's mark; numbers may be hexadecimal")
    .option("--zone <N>", "of a conntrack zone")
    .option("--netns <NAME>", "the table of another namespace: a name, a path or pid:N");
}

/**
 * @param among addresses of which a flow must have one; any when undefined
 * @throws WayoutError of kind usage, naming the option
 */
export async function filterOf(options: FilterOptions, among?: readonly string[]): Promise<FlowFilter> {
  // commander keeps aliases under their own names.
  const given = options as FilterOptions &
    Record<"origSrc" | "origDst" | "origSport" | "origDport", string[]>;
  const original = direction("", {
    src: joined(options.src, given.origSrc),
    dst: joined(options.dst, given.origDst),
    sport: joined(options.sport, given.origSport),
    dport: joined(options.dport, given.origDport),
  });
  const reply = direction("reply-", {
    src: options.replySrc,
    dst: options.replyDst,
    sport: options.replySport,
    dport: options.replyDport,
  });
  return {
    ...present({
      family: options.family === undefined ? undefined : familyOption(options.family),
      protocols: options.proto?.map(protocolOf),
      states: options.state?.map(stateOf),
      original,
      reply,
    }),
    ...(options.pod === undefined
      ? among === undefined
        ? {}
        : { podAddresses: among }
      : { podAddresses: await addressesOf(options.pod) }),
    ...present({
      translated: options.nat || undefined,
      sourceTranslated: options.snat || undefined,
      destinationTranslated: options.dnat || undefined,
    }),
    ...yesOrNo("unreplied", "unreplied", options.unreplied, "replied", options.replied),
    ...yesOrNo("assured", "assured", options.assured, "unassured", options.unassured),
    ...present({
      offloaded: options.offloaded || undefined,
      mark: options.mark === undefined ? undefined : markOf(options.mark),
      zone: options.zone === undefined ? undefined : numberOf("--zone", options.zone, 0xffff),
    }),
  };
}

/** The same, compiled, and whether it takes everything. */
export async function compiledFilterOf(
  options: FilterOptions,
  among?: readonly string[],
): Promise<CompiledFilter & { readonly takesAll: boolean }> {
  const filter = await filterOf(options, among);
  return { ...compileFlowFilter(filter), takesAll: isEmptyFilter(filter) };
}

function yesOrNo<K extends "unreplied" | "assured">(
  key: K,
  yesName: string,
  yes: boolean | undefined,
  noName: string,
  no: boolean | undefined,
): Partial<Record<K, boolean>> {
  if (yes === true && no === true) throw badOption(`--${noName}`, `contradicts --${yesName}`);
  if (yes === true) return { [key]: true } as Partial<Record<K, boolean>>;
  return no === true ? ({ [key]: false } as Partial<Record<K, boolean>>) : {};
}

function direction(
  prefix: string,
  given: Readonly<Record<"src" | "dst" | "sport" | "dport", readonly string[] | undefined>>,
): DirectionFilter | undefined {
  const { src, dst, sport, dport } = given;
  if (src === undefined && dst === undefined && sport === undefined && dport === undefined) return undefined;
  return present({
    source: src?.map((text) => cidrOption(`--${prefix}src`, text)),
    destination: dst?.map((text) => cidrOption(`--${prefix}dst`, text)),
    sourcePort: sport?.map((text) => portsOf(`--${prefix}sport`, text)),
    destinationPort: dport?.map((text) => portsOf(`--${prefix}dport`, text)),
  });
}

function joined(a: string[] | undefined, b: string[] | undefined): string[] | undefined {
  return a === undefined ? b : b === undefined ? a : [...a, ...b];
}

function cidrOption(option: string, text: string): Cidr {
  try {
    return parseCidr(text);
  } catch (error) {
    throw badOption(option, error instanceof Error ? error.message : String(error));
  }
}

/** `80` or `1024-65535`. */
export function portsOf(option: string, text: string): PortRange {
  const found = /^(\d{1,5})(?:[-:](\d{1,5}))?$/.exec(text);
  const first = Number(found?.[1] ?? -1);
  const last = Number(found?.[2] ?? first);
  if (found === null || first > 65535 || last > 65535 || first > last) {
    throw badOption(option, `"${text}" is neither a port nor a range of ports like 1024-65535`);
  }
  return { first, last };
}

function familyOption(text: string): 4 | 6 {
  const family = /^(?:ip|ipv|inet)?([46])$/i.exec(text)?.[1];
  if (family === undefined) throw badOption("--family", `"${text}" is neither 4 nor 6`);
  return family === "4" ? 4 : 6;
}

function protocolOf(text: string): number {
  const number = protocolNumber(text);
  if (number === undefined)
    throw badOption("--proto", `"${text}" is neither a protocol's name nor its number`);
  return number;
}

function stateOf(text: string): string {
  const word = text.toLowerCase();
  if (STATE_WORDS.includes(word)) return word;
  const state = text.toUpperCase().replaceAll("-", "_");
  if (STATES.includes(state)) return state;
  throw badOption(
    "--state",
    `there is no state "${text}"`,
    `TCP has ${TCP_STATES.join(", ")}; protocols without states have ${STATE_WORDS.join(", ")}.`,
  );
}

function markOf(text: string): { readonly value: number; readonly mask: number } {
  const [value, mask, ...rest] = text.split("/");
  if (rest.length > 0) throw badOption("--mark", `"${text}" is not VALUE or VALUE/MASK`);
  const bits = mask === undefined ? 0xffff_ffff : numberOf("--mark", mask, 0xffff_ffff);
  return { value: (numberOf("--mark", value!, 0xffff_ffff) & bits) >>> 0, mask: bits };
}

/** A whole number, decimal or hexadecimal. @throws WayoutError */
export function numberOf(option: string, text: string, maximum: number = Number.MAX_SAFE_INTEGER): number {
  const number = /^(?:\d+|0x[0-9a-f]+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!(number <= maximum)) throw badOption(option, `"${text}" is not a number from 0 to ${maximum}`);
  return number;
}

/** A positive whole number given to an option. @throws WayoutError */
export function countOf(option: string, text: string): number {
  const number = numberOf(option, text);
  if (number === 0) throw badOption(option, "it must be at least 1");
  return number;
}

async function addressesOf(pod: string): Promise<string[]> {
  const { findPod } = await import("../pods/find.ts");
  const { podAddresses } = await import("../pods/pod-addresses.ts");
  const addresses = podAddresses(findPod(pod));
  if (addresses.length > 0) return addresses;
  throw new WayoutError({
    code: "pod-without-address",
    kind: "broken",
    doing: `finding the flows of pod ${pod}`,
    said: "no address of it was found, so no flow can be told to be its own",
    todo: `${command`wayout doctor ${pod}` ?? "wayout doctor"} says why.`,
  });
}

export function badOption(option: string, said: string, todo?: string): WayoutError {
  return new WayoutError({
    code: "bad-option",
    kind: "usage",
    doing: `reading ${option}`,
    said,
    todo: todo ?? "'wayout conntrack --help' lists the filters.",
  });
}
