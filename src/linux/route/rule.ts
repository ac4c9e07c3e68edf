import { cidrText, parseCidr } from "../../address/cidr.ts";
import { attribute, AttributeSet } from "../netlink/attributes.ts";
import { be64, ip, string, struct, u32, u8 } from "../netlink/codec.ts";
import {
  NLM_F_CREATE,
  NLM_F_EXCL,
  request,
  type MessageOf,
  type MessageSpec,
  type Request,
} from "../netlink/message.ts";
import { flagNames, numberedNames, routeProtocols, RT_TABLE, type RouteProtocol } from "./constants.ts";
import { AF_INET, AF_INET6, AF_UNSPEC, ipFamilyOf } from "../socket.ts";
import { mapped, present } from "../../present.ts";

/** Inclusive. */
export interface NumberRange {
  readonly first: number;
  readonly last: number;
}

/** What picks the packets of a policy routing rule and what happens to them. */
export interface RuleSpec {
  readonly family: 4 | 6;
  readonly priority?: number;
  readonly action?: "table" | "goto" | "nop" | "blackhole" | "unreachable" | "prohibit" | `${number}`;
  readonly table?: number;
  /** action goto: priority of the rule to go on with. */
  readonly goto?: number;
  /** Prefix. */
  readonly source?: string;
  readonly destination?: string;
  /** Name: a rule outlives its interface. */
  readonly inputInterface?: string;
  readonly outputInterface?: string;
  readonly mark?: number;
  /** Absent: all 32 bits. */
  readonly mask?: number;
  readonly tos?: number;
  /** Matches what the rest does not. */
  readonly invert?: boolean;
  readonly uids?: NumberRange;
  readonly ipProtocol?: number;
  readonly sourcePorts?: NumberRange;
  readonly destinationPorts?: NumberRange;
  /** A route with a prefix this short or shorter does not count. */
  readonly suppressPrefixLength?: number;
  readonly suppressGroup?: number;
  readonly protocol?: RouteProtocol;
  readonly l3mdev?: boolean;
}

/** Priorities of the rules that every kernel begins with (the last in IPv4 alone, its table is empty everywhere). */
export const KERNEL_RULE = { local: 0, main: 32_766, default: 32_767 } as const;

/** Nobody's to delete. */
export const KERNEL_RULES: ReadonlySet<number> = new Set(Object.values(KERNEL_RULE));

export interface PolicyRule extends RuleSpec {
  readonly priority: number;
  readonly action: NonNullable<RuleSpec["action"]>;
  readonly table: number;
  readonly protocol: RouteProtocol;
  /** "permanent", "unresolved" (goto nowhere), "iif-detached", "oif-detached" (no such interface now). */
  readonly flags: readonly string[];
}

/** FR_ACT_* (include/uapi/linux/fib_rules.h). */
const ruleActions = numberedNames({
  unspec: 0,
  table: 1,
  goto: 2,
  nop: 3,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
});

/** FIB_RULE_* */
const FIB_RULE_INVERT = 0x2;
const RULE_FLAGS = {
  permanent: 0x1,
  unresolved: 0x4,
  "iif-detached": 0x8,
  "oif-detached": 0x10,
  "find-saddr": 0x1_0000,
} as const;

/** FRA_SUPPRESS_*: all ones mean that nothing is suppressed. */
const SUPPRESSES_NOTHING = 0xffff_ffff;

export const fibRuleHeader = struct("fib_rule_hdr", {
  family: "u8",
  destinationLength: "u8",
  sourceLength: "u8",
  tos: "u8",
  table: "u8",
  reserved1: "u8",
  reserved2: "u8",
  action: "u8",
  flags: "u32",
});

export const fibRuleUidRange = struct("fib_rule_uid_range", { first: "u32", last: "u32" });
export const fibRulePortRange = struct("fib_rule_port_range", { first: "u16", last: "u16" });

/** FRA_*. */
export const policyRuleAttributes = new AttributeSet(() => ({
  destination: attribute("FRA_DST", 1, ip),
  source: attribute("FRA_SRC", 2, ip),
  inputInterface: attribute("FRA_IIFNAME", 3, string),
  goto: attribute("FRA_GOTO", 4, u32),
  priority: attribute("FRA_PRIORITY", 6, u32),
  mark: attribute("FRA_FWMARK", 10, u32),
  flow: attribute("FRA_FLOW", 11, u32),
  tunnelId: attribute("FRA_TUN_ID", 12, be64),
  suppressGroup: attribute("FRA_SUPPRESS_IFGROUP", 13, u32),
  suppressPrefixLength: attribute("FRA_SUPPRESS_PREFIXLEN", 14, u32),
  table: attribute("FRA_TABLE", 15, u32),
  mask: attribute("FRA_FWMASK", 16, u32),
  outputInterface: attribute("FRA_OIFNAME", 17, string),
  l3mdev: attribute("FRA_L3MDEV", 19, u8),
  uids: attribute("FRA_UID_RANGE", 20, fibRuleUidRange),
  protocol: attribute("FRA_PROTOCOL", 21, u8),
  ipProtocol: attribute("FRA_IP_PROTO", 22, u8),
  sourcePorts: attribute("FRA_SPORT_RANGE", 23, fibRulePortRange),
  destinationPorts: attribute("FRA_DPORT_RANGE", 24, fibRulePortRange),
}));

export const RTM_NEWRULE = {
  name: "RTM_NEWRULE",
  type: 32,
  header: fibRuleHeader,
  attributes: policyRuleAttributes,
} as const satisfies MessageSpec;
export const RTM_DELRULE = { ...RTM_NEWRULE, name: "RTM_DELRULE", type: 33 } as const satisfies MessageSpec;
export const RTM_GETRULE = { ...RTM_NEWRULE, name: "RTM_GETRULE", type: 34 } as const satisfies MessageSpec;

/** Reads RTM_NEWRULE; undefined for families other than IPv4 and IPv6. */
export function ruleOf({ header, attributes: a }: MessageOf<typeof RTM_NEWRULE>): PolicyRule | undefined {
  const family = ipFamilyOf(header.family);
  if (family === undefined) return undefined;
  const action = ruleActions.nameOf(header.action);
  const rule = present({
    family,
    priority: a.priority ?? 0,
    action: action === "unspec" ? "nop" : action,
    table: a.table ?? header.table,
    goto: a.goto === 0 ? undefined : a.goto,
    source: mapped(a.source, (address) => `${address}/${header.sourceLength}`),
    destination: mapped(a.destination, (address) => `${address}/${header.destinationLength}`),
    inputInterface: a.inputInterface,
    outputInterface: a.outputInterface,
    // A mark of 0 under a mask is a condition; 0 under no mask is none.
    mark: a.mark === undefined || (a.mark === 0 && (a.mask ?? 0) === 0) ? undefined : a.mark,
    mask: a.mask === 0xffff_ffff || a.mask === 0 ? undefined : a.mask,
    tos: header.tos === 0 ? undefined : header.tos,
    invert: (header.flags & FIB_RULE_INVERT) === 0 ? undefined : true,
    uids: a.uids,
    ipProtocol: a.ipProtocol === 0 ? undefined : a.ipProtocol,
    sourcePorts: a.sourcePorts,
    destinationPorts: a.destinationPorts,
    suppressPrefixLength: unlessAllOnes(a.suppressPrefixLength),
    suppressGroup: unlessAllOnes(a.suppressGroup),
    protocol: routeProtocols.nameOf(a.protocol ?? 0),
    l3mdev: a.l3mdev === 1 || undefined,
    flags: flagNames(RULE_FLAGS, header.flags & ~FIB_RULE_INVERT),
  });
  return rule as PolicyRule;
}

function unlessAllOnes(value: number | undefined): number | undefined {
  return value === SUPPRESSES_NOTHING ? undefined : value;
}

/** Fails with EEXIST when there is such a rule. @throws AddressError */
export function addRuleRequest(spec: RuleSpec): Request {
  return ruleRequest(RTM_NEWRULE, "adding", spec, NLM_F_CREATE | NLM_F_EXCL);
}

/** Deletes the first rule that has everything the spec names. @throws AddressError */
export function deleteRuleRequest(spec: RuleSpec): Request {
  return ruleRequest(RTM_DELRULE, "deleting", spec, 0);
}

function ruleRequest(
  message: typeof RTM_NEWRULE | typeof RTM_DELRULE,
  verb: string,
  spec: RuleSpec,
  flags: number,
): Request {
  const source = mapped(spec.source, (text) => parseCidr(text));
  const destination = mapped(spec.destination, (text) => parseCidr(text));
  const action = spec.action ?? "table";
  const adds = message.type === RTM_NEWRULE.type;
  const table = spec.table ?? (adds && action === "table" && spec.l3mdev !== true ? RT_TABLE.main : 0);
  return request(
    message,
    `${verb} rule ${spec.priority ?? ""}${source === undefined ? "" : ` from ${cidrText(source)}`}`,
    {
      family: spec.family === 4 ? AF_INET : AF_INET6,
      destinationLength: destination?.prefixLength ?? 0,
      sourceLength: source?.prefixLength ?? 0,
      tos: spec.tos ?? 0,
      table: table < 256 ? table : 0,
      action: adds || spec.action !== undefined ? ruleActions.numberOf(action) : 0,
      flags: spec.invert === true ? FIB_RULE_INVERT : 0,
    },
    present({
      destination: destination?.network,
      source: source?.network,
      inputInterface: spec.inputInterface,
      outputInterface: spec.outputInterface,
      goto: spec.goto,
      priority: spec.priority,
      mark: spec.mark,
      mask: spec.mask ?? (spec.mark === undefined ? undefined : 0xffff_ffff),
      table: table === 0 ? undefined : table,
      suppressPrefixLength: spec.suppressPrefixLength,
      suppressGroup: spec.suppressGroup,
      l3mdev: spec.l3mdev === true ? 1 : undefined,
      uids: spec.uids,
      protocol:
        adds || spec.protocol !== undefined ? routeProtocols.numberOf(spec.protocol ?? "boot") : undefined,
      ipProtocol: spec.ipProtocol,
      sourcePorts: spec.sourcePorts,
      destinationPorts: spec.destinationPorts,
    }),
    flags,
  );
}

/** Without a family those of all, multicast routing's included. */
export function dumpRulesRequest(family?: 4 | 6): Request {
  if (family === undefined) return request(RTM_GETRULE, "reading the rules", { family: AF_UNSPEC }, {});
  return request(
    RTM_GETRULE,
    `reading the IPv${family} rules`,
    { family: family === 4 ? AF_INET : AF_INET6 },
    {},
  );
}
