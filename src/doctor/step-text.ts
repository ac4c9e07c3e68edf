/** What a step of the checklist judged when nothing is wrong there, with the values that say so. Pure. */
import { isLoopbackAddress } from "../address/special-purpose.ts";

import type { StepName } from "../causes/steps.ts";
import type { CheckContext } from "./check.ts";
import { askedNameservers } from "../linux/resolv-conf.ts";
import { containersInRules } from "./checks/housekeeping.ts";
import { largestPacket, learnedSize } from "./checks/sizes.ts";
import { isAnsweredFor } from "./predict/on-link.ts";

/** `judged`: the text is what was found in order. Otherwise it is the reason why there was nothing to judge. */
export interface StepText {
  readonly judged: boolean;
  readonly text: string;
}

export function stepText(step: StepName, context: CheckContext): StepText {
  return TEXTS[step](context);
}

const ok = (text: string): StepText => ({ judged: true, text });
const none = (text: string): StepText => ({ judged: false, text });

/** How a packet ends that does not leave by an uplink. */
function delivered({ path: { end } }: CheckContext): string {
  if (end === "bridged") return "not needed: the bridge delivers the packet";
  if (end === "pod") return "not needed: the packet stays in the pod";
  return end === "node" ? "not needed: the packet is for the node" : "not known how the packet leaves";
}

const TEXTS: Readonly<Record<StepName, (context: CheckContext) => StepText>> = {
  "pod-link": ({ path: { podLink } }) =>
    podLink === undefined ? none("the packet uses no interface of the pod") : ok(`${podLink.name} is up`),
  "pod-address": ({ path: { sent } }) =>
    sent === undefined ? none("the pod's source address is not known") : ok(sent.source),
  "pod-route": ({ path: { podLink, gateway } }) =>
    podLink === undefined
      ? none("the packet uses no route of the pod")
      : ok(`${gateway === undefined ? "on-link" : `via ${gateway}`} dev ${podLink.name}`),
  gateway: (context) =>
    context.path.gateway === undefined
      ? none("not needed: the route names no gateway")
      : ok(holderText(context, context.path.gateway)),
  bridge({ path: { hostLink, inLink } }) {
    if (hostLink === undefined) return none("the pod has no veth on this node");
    return inLink === undefined || inLink.index === hostLink.index
      ? ok(`${hostLink.name}, no bridge`)
      : ok(`${hostLink.name} is a port of ${inLink.name}`);
  },
  forwarding(context) {
    const name = context.family === 4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding";
    const value = context.node.view.sysctl(name);
    if (value === 1) return ok(`${name} is 1`);
    return none(context.path.outLink === undefined ? delivered(context) : `${name} is not known`);
  },
  "node-route": (context) =>
    context.path.outLink === undefined ? none(delivered(context)) : ok(`out by ${context.path.outLink.name}`),
  "reverse-path": reversePathText,
  filter({ node, inside }) {
    const tables = [...node.hooks.tables, ...(inside?.hooks.tables ?? [])];
    const rules = tables.flatMap(({ chains }) => chains).reduce((sum, chain) => sum + chain.rules.length, 0);
    return ok(rules === 0 ? "there are no rules" : `none of ${rules} rules drops the packet or its answer`);
  },
  nat(context) {
    const { left, sent, translatedBy, atLink } = context.path;
    if (left === undefined || sent === undefined) return none(delivered(context));
    // A finding that explains the whole way hides that nothing translates there.
    if (context.stops("untranslated").length > 0)
      return none(`${left.source} is not translated on this way: see what leads it there`);
    if (left.source === sent.source) return ok(`not translated: it leaves as ${left.source}`);
    const isFast = context.snapshot.node.linkTranslation?.fastPath?.open === true;
    const program =
      atLink === undefined
        ? ""
        : ` by wayout's eBPF program at ${atLink.link.name}${isFast ? "; once it is known, by the fast path" : ""}`;
    const by =
      translatedBy === undefined ? program : ` by ${translatedBy.table.family} ${translatedBy.table.name}`;
    return ok(`${sent.source} → ${left.source}${by}`);
  },
  conntrack({ snapshot }) {
    const table = snapshot.node.conntrack;
    if (table === undefined) return none("the connection table was not read");
    return ok(`${table.count} of ${table.max === 0 ? "unlimited" : table.max} entries in use`);
  },
  mtu(context) {
    const { outLink, pathMtu } = context.path;
    const own = largestPacket(context);
    if (outLink === undefined || pathMtu === undefined || own === undefined) return none(delivered(context));
    const learned = learnedSize(context);
    const told =
      learned === undefined || learned.mtu >= own
        ? `${own} bytes`
        : `${learned.mtu} bytes (as a router has told the pod), otherwise ${own}`;
    return ok(`packets of up to ${told}, ${outLink.name} takes ${pathMtu}`);
  },
  dns: nameServerText,
  housekeeping(context) {
    const found = containersInRules(context);
    if (found === undefined) return none("the node's containers are not known");
    const { named, unknown } = found;
    return ok(
      named === 0
        ? "no rule names a container"
        : `rules name ${named} containers, ${unknown === 0 ? "all" : named - unknown} of this node`,
    );
  },
};

/** Which interface has the pod's gateway address, as it was read. */
function holderText({ node, path }: CheckContext, gateway: string): string {
  const own = node.view.state.addresses.find((one) => one.address === gateway);
  const link = node.view.linkAt(own?.interface);
  if (link !== undefined) return `${link.name} has ${gateway}`;
  const { inLink } = path;
  if (inLink === undefined) return gateway;
  const answers = isAnsweredFor(node.view, inLink, gateway);
  return answers ? `${inLink.name} answers for ${gateway}` : `${gateway}, behind ${inLink.name}`;
}

/** The larger of the interface's own value and that of `all` counts. */
function reversePathText(context: CheckContext): StepText {
  const { path, node, family } = context;
  if (family === 6) return none("not needed: IPv6 has no rp_filter");
  const all = node.view.sysctl("net.ipv4.conf.all.rp_filter") ?? 0;
  const values = [path.inLink, path.outLink].flatMap((link) => {
    const own = link === undefined ? undefined : node.view.conf(4, link.name, "rp_filter");
    return link === undefined || own === undefined ? [] : [`${Math.max(all, own)} on ${link.name}`];
  });
  return values.length === 0
    ? none(delivered(context))
    : ok(`rp_filter is ${[...new Set(values)].join(", ")}`);
}

function nameServerText({ pod, inside, path }: CheckContext): StepText {
  if (pod.resolvConf === undefined || inside === undefined) return none("the pod's resolv.conf is not known");
  const servers = askedNameservers(pod.resolvConf);
  const text = servers.map((one) => (isLoopbackAddress(one) ? `${one} (in the pod)` : one)).join(", ");
  // The check says nothing of a server that the same stop keeps from the pod.
  if (path.stops.length > 0) return none(`not judged for ${text}: the pod's packets are stopped before`);
  return ok(
    servers.length === 1
      ? `name server ${text} can be reached`
      : `of name servers ${text} one can be reached`,
  );
}
