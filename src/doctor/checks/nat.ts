/** Does the packet leave with an address to which the outside can answer? */
import { familyOf, hostCidr } from "../../address/ip.ts";
import { isPrivateAddress } from "../../address/special-purpose.ts";
import { needsTranslation } from "../../causes/facts.ts";
import type { Link } from "../../linux/route/link.ts";
import { command } from "../../text/command.ts";
import {
  deleteRuleFix,
  finding,
  said,
  type Check,
  type CheckContext,
  type Found,
  ruleEvidence,
} from "../check.ts";
import type { Evidence, Finding } from "../finding.ts";
import { hopsOf, routeText } from "../predict/fib.ts";
import type { Stop } from "../predict/path.ts";
import { masqueradeAddress } from "../predict/nat.ts";
import { onLinkPrefix } from "../predict/on-link.ts";
import type { Candidate } from "../predict/near-miss.ts";
import { decisionChain, decisionPlace, decisionText, statelessText } from "../wording.ts";
import { ownerOfDecision, productOfDecision, ruleOfOwner } from "../whose.ts";
import { lostMark, nearest, type LostMark } from "./nat-candidates.ts";
import { masqueradeFirst, natFix } from "./nat-fix.ts";
import { flushedRule, programElsewhere } from "./nat-missing.ts";
import { dropped } from "./nat-dropped.ts";
import { ipsecEscaped } from "./ipsec.ts";
import { foreignInPod } from "./pod-nat.ts";
import { natPrograms } from "./nat-programs.ts";
import { natWarnings } from "./nat-warnings.ts";

export const nat: Check = {
  step: "nat",
  codes: [
    "nat-missing",
    "nat-unreachable",
    "nat-mismatch",
    "nat-excluded",
    "nat-program-elsewhere",
    "nat-flushed",
    "hairpin-untranslated",
    "nat-foreign-address",
    "pod-nat-foreign-address",
    "nat-no-address",
    "nat-dropped",
    "nat-unexpected-address",
    "nat-double",
    "nat-against-exclusion",
    "nat-mark-collision",
    "nat-two-backends",
    "nat-long-chain",
    "nat-program-detached",
    "nat-program-full",
    "ipsec-escaped",
  ],
  suspects: (context) => [...ipsecEscaped(context), ...ofPublicPrefix(context)],
  run: (context) => [
    ...foreignInPod(context),
    ...untranslated(context),
    ...ownSource(context),
    ...foreign(context),
    ...refused(context),
    ...dropped(context),
    ...unexpected(context),
    ...natPrograms(context),
    ...natWarnings(context),
  ],
};

function untranslated(context: CheckContext): Finding[] {
  const [stop] = context.stops("untranslated");
  // A program of ours that is missing at the link is told as that.
  if (stop === undefined || context.stops("program-detached").length > 0) return [];
  const programs = context.path.blindSpots.filter((spot) => spot.couldTranslate);
  if (programs.length > 0) return [];
  const base: readonly Evidence[] = [
    { source: `source of the packet as it leaves by ${stop.link.name}`, value: stop.source },
  ];
  const candidates = nearest(context);
  const best = candidates[0];
  const consequence = "no router outside has a route back to it: requests leave, answers do not come";
  const elsewhere = programElsewhere(context, base, consequence);
  if (elsewhere !== undefined && best?.misses.length !== 0) return [elsewhere];
  const lost = lostMark(context);
  if (lost !== undefined && best?.misses.length !== 0) return [overwritten(context, lost, base, consequence)];
  if (best === undefined || (best.misses.length > 1 && best.before === undefined)) {
    const flushed = flushedRule(context, base, consequence);
    if (flushed !== undefined) return [flushed];
    return [
      finding("nat-missing", {
        text: `no rule translates ${stop.source}: ${context.pod.name}'s packets leave ${stop.link.name} with an address that no router outside has a route to`,
        owner: "none: the rule is missing",
        evidence: [
          ...base,
          { source: "rules that translate a source", value: best === undefined ? "none" : best.text },
        ],
        consequence,
        fix: natFix(context),
      }),
    ];
  }
  return [nearMiss(context, best, base, consequence)];
}

function nearMiss(
  context: CheckContext,
  best: Candidate,
  base: readonly Evidence[],
  consequence: string,
): Finding {
  const by = { table: best.table, chain: best.chain, base: best.chain as never, rule: best.rule };
  const owner = ownerOfDecision(by);
  const place = decisionPlace(by);
  const evidence = [...base, { source: place, value: best.text }];
  if (best.unreachable !== undefined && best.misses.length === 0) {
    return finding("nat-unreachable", {
      text: `“${best.text}” would translate, but no packet reaches it: ${best.unreachable}`,
      owner,
      evidence: [...evidence, { source: `chain ${best.chain.name}`, value: best.unreachable }],
      consequence,
      fix: natFix(context),
    });
  }
  if (best.before !== undefined) {
    const { chain, rule, text } = best.before;
    const decider = { table: best.table, chain, base: chain as never, rule };
    return finding("nat-excluded", {
      text: `“${text}” in ${chain.name} decides before “${best.text}” can translate`,
      owner: ownerOfDecision(decider),
      evidence: [...evidence, { source: decisionPlace(decider), value: text }],
      consequence,
      // A product's exclusion is its own: ours translates beside it.
      fix:
        productOfDecision(decider) === undefined
          ? [deleteRuleFix(context, "node", decider)]
          : natFix(context),
    });
  }
  const [miss] = best.misses;
  if (miss === undefined) {
    return finding("nat-missing", {
      text: `no rule translates ${context.path.sent?.source ?? "the pod's address"}`,
      owner,
      evidence,
      consequence,
      fix: natFix(context),
      confidence: "likely",
    });
  }
  const instead = miss.actual === undefined ? "" : `: it is ${miss.actual}`;
  const behind = routeBehind(context, miss.condition);
  return finding("nat-mismatch", {
    text: `“${best.text}” would translate, but its condition “${miss.condition}” does not hold${instead}`,
    owner,
    evidence: [
      ...evidence,
      { source: "the condition that fails", value: `${miss.condition}${instead}` },
      ...(behind === undefined
        ? []
        : [
            { source: `ip route get ${context.path.routed!.destination}`, value: behind.chosen },
            { source: "behind it", value: behind.other },
          ]),
    ],
    consequence,
    fix: natFix(context),
    ...(behind === undefined
      ? {}
      : {
          advice: [
            `or, if the pods are to leave by ${behind.link}: “${behind.chosen}” stands before “${behind.other}”, and must be deleted, or given a higher metric, by the program that made it`,
          ],
        }),
    confidence: "likely",
  });
}

/** A route to the same network by the link that a rule's condition names, which the chosen one stands before. */
function routeBehind(
  { node, routedWay: way }: CheckContext,
  condition: string,
): { readonly link: string; readonly chosen: string; readonly other: string } | undefined {
  const { view } = node;
  if (way?.kind !== "route" || way.route === undefined) return undefined;
  const { route, link } = way;
  const { routes, links } = view.state;
  for (const other of routes) {
    const named = view.linkAt(hopsOf(other)[0]?.interface)?.name;
    if (other === route || named === undefined || named === link.name) continue;
    if (other.family !== route.family || other.table !== route.table) continue;
    if (other.destination !== route.destination || !condition.split(/[\s"]+/).includes(named)) continue;
    return { link: named, chosen: routeText(route, links), other: routeText(other, links) };
  }
  return undefined;
}

/** Two programs use the same bits of the mark, or one sets all of them where it means its own. */
function overwritten(
  context: CheckContext,
  { candidate, given, overwritten: by }: LostMark,
  base: readonly Evidence[],
  consequence: string,
): Finding {
  const { table, chain, rule, text } = candidate;
  const own = statelessText(rule, table);
  const place = decisionPlace({ table, chain, base: chain as never, rule });
  const [before, now] = [given, by].map(({ mark }) => `0x${mark.toString(16)}`);
  return finding("nat-mismatch", {
    text: `“${own}” would translate by the mark ${before} that ${context.pod.name}'s packets get, but ${ruleOfOwner(by.by)} in ${decisionChain(by.by)} changes it to ${now} before`,
    owner: ownerOfDecision(by.by),
    evidence: [
      ...base,
      { source: place, value: text },
      { source: `mark ${before}: ${decisionPlace(given.by)}`, value: decisionText(given.by) },
      { source: `mark ${now}: ${decisionPlace(by.by)}`, value: decisionText(by.by) },
    ],
    consequence,
    fix: natFix(context),
    advice: [
      `or let the rule in ${decisionChain(by.by)} change only the bits that are its own (--set-xmark VALUE/MASK; nft: meta mark set meta mark or VALUE)`,
    ],
  });
}

/** What the pod sends to itself by way of the node comes back as if forged. */
function ownSource(context: CheckContext): Finding[] {
  const ip = context.family === 4 ? "ip" : "ip6";
  const table = `${ip} hairpin`;
  return context.stops("own-source").map(({ source, target }) =>
    finding("hairpin-untranslated", {
      text: `${target} leads back to ${context.pod.name} itself, and nothing translates the source: it comes in with the pod's own address`,
      owner: "the program that published the port",
      evidence: [
        { source: `translation of ${target}`, value: source },
        { source: "source of the packet as it comes back", value: source },
      ],
      consequence: "the pod drops it as forged; others reach the published port",
      fix: [
        // One transaction: a table without its rule would be of no use.
        context.fix(
          "node",
          command`nft ${`add table ${table}; add chain ${table} postrouting { type nat hook postrouting priority srcnat; }; add rule ${table} postrouting ${ip} saddr ${source} ${ip} daddr ${source} masquerade`}`,
        ),
      ],
      advice: ["CNI portmap does it with snat (its default); Docker with its userland proxy off"],
      confidence: "likely",
    }),
  );
}

function foreign(context: CheckContext): Finding[] {
  return context.stops("foreign-source").map((stop) => {
    const by = stop.by;
    const owner = by === undefined ? "unknown" : ownerOfDecision(by);
    const own = masqueradeAddress(
      context.node.view,
      context.family,
      stop.link.name,
      context.path.gateway ?? context.target.address,
    );
    return finding("nat-foreign-address", {
      text: `the source is translated to ${stop.source}, which this node does not have${own === undefined ? "" : ` (${stop.link.name} has ${own})`}`,
      owner,
      evidence: [...ruleEvidence(by), { source: "addresses of the node", value: `none is ${stop.source}` }],
      consequence: `answers go to ${stop.source}, and this node does not take them`,
      ...foreignCure(context, stop),
      confidence: "likely",
    });
  });
}

/** In the uplink's own network the address only lacks an owner; from elsewhere nothing says that it is routed to here. */
function foreignCure(
  context: CheckContext,
  { source, link, prefix, by }: Extract<Stop, { readonly kind: "foreign-source" }>,
): Partial<Pick<Found, "fix" | "advice">> {
  const own = command`ip addr add ${hostCidr(source)} dev ${link.name}`;
  if (prefix !== undefined || by === undefined) return { fix: [context.fix("node", own)] };
  return {
    fix: [masqueradeFirst(context, by, link.name)],
    advice: [
      `or have the network outside route ${source} to this node`,
      ...said("and then give the node the address: ", own),
    ],
  };
}

function refused(context: CheckContext): Finding[] {
  return context
    .stops("filtered")
    .filter((stop) => stop.stop.kind === "nat-refused")
    .map(({ stop }) =>
      finding("nat-no-address", {
        text: `${stop.said ?? "the translation found no address"}: the packet is dropped`,
        owner: "the node's addresses",
        evidence: ruleEvidence(stop.by),
        consequence: "nothing leaves the node",
        advice: [`give ${context.path.outLink?.name ?? "the out-interface"} an address`],
      }),
    );
}

/** MASQUERADE and the route's own source differ. */
function unexpected(context: CheckContext): Finding[] {
  const { outLink, left, translatedBy } = context.path;
  if (outLink === undefined || left === undefined || translatedBy?.action !== "masquerade") return [];
  const way = context.node.view.fib.predict({ destination: left.destination });
  if (way.kind !== "route" || way.source === undefined || way.link.index !== outLink.index) return [];
  if (way.source === left.source || way.route?.preferredSource === undefined) return [];
  return [
    finding("nat-unexpected-address", {
      text: `masquerade uses ${left.source}, the route names ${way.source}`,
      owner: ownerOfDecision(translatedBy),
      evidence: [
        ...ruleEvidence(translatedBy),
        { source: `ip route get ${left.destination}`, value: `src ${way.source}` },
      ],
      consequence: "the outside sees another address than the node's own connections have",
      advice: [`translate to a fixed address: snat to ${way.source}`],
    }),
  ];
}

/** A public address of the pod's own needs no translation where the routers outside know the way to it, which only they say. */
function ofPublicPrefix(context: CheckContext): Finding[] {
  const { left, sent, outLink, end } = context.path;
  if (left === undefined || sent === undefined || outLink === undefined || end !== "outside") return [];
  if (left.source !== sent.source || context.node.view.fib.isLocal(left.source)) return [];
  if (needsTranslation(left.source, left.destination) || isPrivateAddress(left.source)) return [];
  if (onLinkPrefix(context.node.view, outLink, left.source) !== undefined) return [];
  return [
    finding("nat-missing", {
      text: `no rule translates ${left.source}: it leaves ${outLink.name} as it is, and answers come only where the routers outside have a route for it to this node`,
      owner: "the network outside (its routes), or the rule that is missing here",
      evidence: [
        { source: `source of the packet as it leaves by ${outLink.name}`, value: left.source },
        { source: `network of ${outLink.name}`, value: networksOf(context, outLink, left.source) },
      ],
      consequence: "without that route the answers go elsewhere",
      advice: [
        `if the prefix of ${left.source} is to be routed to this node: see the router's routes`,
        ...said("or translate it here: ", natFix(context)[0]?.command),
      ],
      confidence: "likely",
    }),
  ];
}

function networksOf({ node }: CheckContext, link: Link, source: string): string {
  const family = familyOf(source);
  const own = node.view.state.addresses.filter(
    (one) => one.interface === link.index && one.family === family && one.scope === "global",
  );
  return own.map((one) => `${one.address}/${one.prefixLength}`).join(", ") || "none";
}
