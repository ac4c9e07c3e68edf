/** Our own eBPF programs: not attached where the packet leaves, without an address, or dropping for want of room. */
import { finding, type CheckContext } from "../check.ts";
import type { Evidence, Finding, Fix } from "../finding.ts";
import { restoringFix } from "./nat-fix.ts";
import type { Decision } from "../predict/decision.ts";

export function natPrograms(context: CheckContext): Finding[] {
  return [...detached(context), ...withoutAddress(context), ...dropping(context)];
}

function detached(context: CheckContext): Finding[] {
  const [stop] = context.stops("program-detached");
  if (stop === undefined) return [];
  const { link, side, owner } = stop;
  const guards = context.stops("filtered").some((one) => isGuardsWork(context, one.stop.by));
  return [
    finding("nat-program-detached", {
      text: `wayout translates by eBPF programs for ${owner}, and none is attached at the ${side} of ${link.name}`,
      owner: `wayout (${owner})`,
      evidence: [
        ...placesOf(context),
        { source: `programs at the ${side} of ${link.name}`, value: "none of ours" },
      ],
      consequence:
        side === "egress"
          ? guards
            ? `wayout's guard (${guardText(context)}) drops what would leave there with the pod's own address`
            : "packets leave with the pod's own address, to which no router outside has a route"
          : "requests leave translated, and their answers are not turned back: they end on the node",
      fix: [restoring(context, owner)],
      advice: ["it was detached, or the link came later: a running agent attaches it by itself"],
    }),
  ];
}

function withoutAddress(context: CheckContext): Finding[] {
  const [stop] = context.stops("program-without-address");
  if (stop === undefined) return [];
  const { link, owner } = stop;
  const { family } = context.path;
  return [
    finding("nat-no-address", {
      text: `${link.name} has no IPv${family} address for wayout's eBPF program to translate to`,
      owner: "the node's network configuration",
      evidence: [
        ...placesOf(context),
        { source: `addresses of ${link.name}`, value: `none of IPv${family}` },
        { source: "policy of the programs", value: owner },
      ],
      consequence: "the program drops the packet",
      fix: [],
      advice: [`give ${link.name} an address, or translate to a fixed one (snat)`],
    }),
  ];
}

/** What the programs count of packets that they had to drop, and what makes room. */
const DROPS: Readonly<Record<string, string>> = {
  "dropped: the table of flows is full": "its table of connections is full",
  "dropped: no free port": "every port to a destination is taken",
};

function dropping(context: CheckContext): Finding[] {
  const translation = context.snapshot.node.linkTranslation;
  if (translation === undefined || context.path.atLink === undefined) return [];
  return Object.entries(DROPS).flatMap(([what, why]) => {
    const count = translation.counts[what] ?? 0;
    if (count === 0) return [];
    return [
      finding("nat-program-full", {
        text: `wayout's eBPF programs have dropped ${count} packets because ${why}`,
        owner: "wayout (eBPF programs)",
        evidence: [
          { source: "counter of the programs", value: `${what}: ${count}` },
          { source: "connections that they have room for", value: String(translation.room) },
        ],
        consequence: "new connections fail while it lasts; those that stand go on",
        fix: [],
        advice: ["'wayout conntrack stats' says which pod and which destination takes the most"],
        confidence: "likely",
      }),
    ];
  });
}

/** Whether our own guard drops the packet, because a program of ours is missing where it leaves. */
export function isGuardsWork(context: CheckContext, { table }: Decision): boolean {
  const guard = context.snapshot.node.linkTranslation?.guard;
  return (
    guard !== undefined &&
    table.name === guard.table &&
    table.family === guard.family &&
    context.stops("program-detached").length > 0
  );
}

function guardText({ snapshot }: CheckContext): string {
  const { family = "", table = "" } = snapshot.node.linkTranslation?.guard ?? {};
  return `table ${family} ${table}`;
}

function placesOf({ snapshot }: CheckContext): Evidence[] {
  const { egress = [], ingress = [] } = snapshot.node.linkTranslation ?? {};
  const text = (links: readonly string[]): string => (links.length === 0 ? "no link" : links.join(", "));
  return [
    { source: "wayout's programs at egress", value: text(egress) },
    { source: "wayout's programs at ingress", value: text(ingress) },
  ];
}

function restoring(context: CheckContext, owner: string): Fix | undefined {
  const { backend, intents = [] } = context.snapshot.node.linkTranslation ?? {};
  const intent = intents.find((one) => one.owner === owner);
  return backend === undefined || intent === undefined ? undefined : restoringFix(context, backend, intent);
}
