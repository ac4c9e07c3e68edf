/** Packets leave by one link with a source that belongs to the network of another. */
import { cidrContains, cidrOf } from "../../address/cidr.ts";
import { familyOf, hostCidr, ipBits } from "../../address/ip.ts";
import type { Address } from "../../linux/route/address.ts";
import type { Link } from "../../linux/route/link.ts";
import { KERNEL_RULES, type PolicyRule } from "../../linux/route/rule.ts";
import { RT_TABLE, routingTableText } from "../../linux/route/constants.ts";
import { productOfPolicyRule } from "../../rules/owner.ts";
import { command } from "../../text/command.ts";
import { familyFlag, finding, ruleEvidence, sysctlEvidence, type CheckContext } from "../check.ts";
import type { Evidence, Finding, Fix } from "../finding.ts";
import { ownerOfDecision, ruleOfOwner } from "../whose.ts";
import { decisionPlace } from "../wording.ts";
import { masqueradeFirst } from "./nat-fix.ts";
import { pastTranslation } from "./filter-cure.ts";
import type { Decision } from "../predict/decision.ts";
import { predictPath } from "../predict/predict.ts";
import { withChanges } from "../remedy/change.ts";
import { hopsOf } from "../predict/fib.ts";
import { nextHopOf } from "../predict/next-hop.ts";
import { onLinkPrefix, silencedBy } from "../predict/on-link.ts";
import { policyRuleText } from "../predict/rule-selector.ts";

/** The source is an address of the node, of a link in another network than the one the packet leaves by. */
export function otherLinksAddress(context: CheckContext): Finding[] {
  const { outLink, left, end } = context.path;
  const { view } = context.node;
  if (outLink === undefined || left === undefined || end !== "outside") return [];
  const family = familyOf(left.source);
  const own = view.state.addresses.find((one) => one.address === left.source);
  const link = view.linkAt(own?.interface);
  if (own === undefined || link === undefined || link.index === outLink.index) return [];
  const onOut = view.state.addresses.filter(
    (one) => one.interface === outLink.index && one.family === family,
  );
  const mine = onOut.filter((one) => one.scope === "global");
  if (mine.some((one) => cidrContains(cidrOf(one.address, one.prefixLength), left.source))) return [];
  // One of a network belongs there; one of the node as a whole (on loopback or a dummy) is announced, or should be.
  const ofNode = own.prefixLength === ipBits(family) || link.layer === "loopback";
  if (ofNode) return context.path.translatedBy === undefined ? [] : [unannounced(context, own.address, link)];
  const there = `${own.address}/${own.prefixLength}`;
  const by = context.path.translatedBy;
  return [
    finding("other-links-address", {
      text: `packets leave by ${outLink.name} with ${left.source}, the address of ${link.name}, another link of the node`,
      owner: by === undefined ? "the node's routing and translation" : ownerOfDecision(by),
      evidence: [
        ...ruleEvidence(by),
        { source: `addresses of ${link.name}`, value: there },
        {
          source: `addresses of ${outLink.name}`,
          value: onOut.map(scopedText).join(", ") || "none",
        },
        { source: "source of the packet as it leaves", value: left.source },
      ],
      consequence: `the network behind ${outLink.name} drops foreign sources, or its answers come in by ${link.name}`,
      fix:
        by === undefined || mine[0] === undefined
          ? []
          : [byNextRule(context, by) ?? masqueradeFirst(context, by, outLink.name)],
      advice: [
        mine[0] === undefined
          ? onOut[0] === undefined
            ? `give ${outLink.name} an address to send from`
            : `give ${outLink.name} its address with scope global: MASQUERADE takes no other`
          : `translate what leaves by ${outLink.name} to ${mine[0].address} (masquerade does)`,
      ],
      confidence: "likely",
    }),
  ];
}

function scopedText({ address, prefixLength, scope }: Address): string {
  return `${address}/${prefixLength}${scope === "global" ? "" : ` scope ${scope}`}`;
}

/** Where another rule behind it gives the packet an address of the link that it leaves by. */
function byNextRule(context: CheckContext, by: Decision): Fix | undefined {
  const fix = pastTranslation(context, by);
  if (fix?.change === undefined) return undefined;
  const changed = withChanges(context.snapshot, context.pod, [fix.change]);
  if (changed === undefined) return undefined;
  const { path } = predictPath(changed.snapshot, changed.pod, context.target);
  const owner = context.node.view.state.addresses.find((one) => one.address === path.left?.source);
  const isOwn = owner !== undefined && owner.interface === context.path.outLink?.index;
  return isOwn && path.stops.length === 0 ? fix : undefined;
}

/** Whether routers know a way to an address of no network is theirs to say: a daemon of BGP or OSPF has told them, or not. */
function unannounced(context: CheckContext, address: string, link: Link): Finding {
  const { outLink, translatedBy: by } = context.path;
  return finding("other-links-address", {
    text: `${ruleOfOwner(by!)} in ${decisionPlace(by!)} gives what leaves by ${outLink!.name} the address ${address} of ${link.name}, which is in no network of ${outLink!.name}`,
    owner: ownerOfDecision(by!),
    evidence: [
      ...ruleEvidence(by),
      { source: `addresses of ${link.name}`, value: address },
      { source: "source of the packet as it leaves", value: address },
    ],
    consequence: `answers come back only where the routers behind ${outLink!.name} have a route for ${address} to this node`,
    fix: [byNextRule(context, by!)],
    advice: [
      `have ${address} announced to the routers (BGP, OSPF, a static route), or translate to an address of ${outLink!.name}`,
    ],
    confidence: "likely",
  });
}

/**
 * The pod's own address is out of another uplink's network, as clouds with several interfaces have it: each pod has a rule
 * that sends it out by its address's interface, and this one's is gone.
 */
export function otherUplinksNetwork(context: CheckContext): Finding[] {
  const { outLink, inLink, left, sent, end } = context.path;
  const { view } = context.node;
  if (outLink === undefined || left === undefined || end !== "outside" || left.source !== sent?.source)
    return [];
  const home = view.state.links.find(
    (link) =>
      link.index !== outLink.index &&
      link.index !== inLink?.index &&
      link.kind !== "bridge" &&
      onLinkPrefix(view, link, left.source) !== undefined,
  );
  if (home === undefined || onLinkPrefix(view, outLink, left.source) !== undefined) return [];
  const sibling = view.state.rules.find((rule) => leadsOutBy(context, rule, home));
  return [otherNetworkFinding(context, { outLink, home, source: left.source, sibling })];
}

interface OtherNetwork {
  readonly outLink: Link;
  /** The link whose network the source is out of. */
  readonly home: Link;
  readonly source: string;
  /** A rule of another address of that network. */
  readonly sibling: PolicyRule | undefined;
}

function otherNetworkFinding(
  context: CheckContext,
  { outLink, home, source, sibling }: OtherNetwork,
): Finding {
  const network = onLinkPrefix(context.node.view, home, source)!;
  const none =
    sibling === undefined
      ? ""
      : `; other addresses have a rule like “${policyRuleText(sibling)}”, and this one has none`;
  const evidence: Evidence[] = [
    { source: `network of ${home.name}`, value: network },
    { source: "source of the packet as it leaves", value: source },
    ...(sibling === undefined ? [] : [{ source: "ip rule", value: policyRuleText(sibling) }]),
  ];
  const product = sibling === undefined ? undefined : productOfPolicyRule(sibling)?.product;
  return finding("other-links-address", {
    text: `packets leave by ${outLink.name} with ${source}, an address out of ${network}, the network of ${home.name}${none}`,
    owner: product ?? "the program that makes the rules of policy routing (networkd deletes those of others)",
    evidence,
    consequence: `the network behind ${outLink.name} drops foreign sources, or its answers come in by ${home.name}`,
    ...(sibling === undefined
      ? { advice: [`a rule “from ${source} lookup TABLE”, whose table leads out by ${home.name}`] }
      : { fix: [ruleLike(context, sibling, source)] }),
    confidence: "likely",
  });
}

function ruleLike(
  context: CheckContext,
  sibling: PolicyRule,
  source: string,
): ReturnType<CheckContext["fix"]> {
  const { priority, table } = sibling;
  const rule: PolicyRule = { ...sibling, source: hostCidr(source) };
  const line = command`ip ${familyFlag(source)} rule add priority ${priority} from ${source} lookup ${routingTableText(table)}`;
  return context.fix("node", line, undefined, { kind: "add-policy-rule", place: "node", rule });
}

/** A rule for one source, whose table leads out by the link. */
function leadsOutBy({ node, family }: CheckContext, rule: PolicyRule, link: Link): boolean {
  if (rule.family !== family || rule.action !== "table" || KERNEL_RULES.has(rule.priority)) return false;
  if (rule.source === undefined || rule.table === RT_TABLE.main) return false;
  return node.view.state.routes.some(
    (route) =>
      route.table === rule.table &&
      hopsOf(route).some((hop) => hop.interface === link.index && hop.gateway !== undefined),
  );
}

/** The router asks for the node's own address, and a setting forbids the answer. */
export function silentUplink(context: CheckContext): Finding[] {
  const { outLink, left, end } = context.path;
  const { view } = context.node;
  const router = nextHopOf(context.snapshot.node, context.path);
  if (outLink === undefined || left === undefined || router === undefined || end !== "outside") return [];
  const by = silencedBy(view, outLink, left.source, router);
  if (by === undefined) return [];
  return [
    finding("source-unanswered", {
      text: `${outLink.name} does not answer for ${left.source}, with which packets leave: arp_ignore is ${by.value}`,
      owner: "the node's settings",
      evidence: [
        { source: `addresses of ${by.holder}`, value: left.source },
        sysctlEvidence(by.sysctl, by.value),
      ],
      consequence: "the router cannot find whom to give the answer to",
      fix: [context.setSysctl("node", by.sysctl, "0")],
      confidence: "likely",
    }),
  ];
}
