/**
 * The node as one picture: who lives here, through what their packets go, and where they end. It holds what the page draws
 * and no more, so that a node with many pods still fits in one answer; the whole checklist of a pod is asked for by itself.
 * Pure.
 */
import { hostEndOf } from "../../snapshot/host-end.ts";
import { catalogueEntry } from "../../causes/catalogue/all.ts";
import type { StepName } from "../../causes/steps.ts";
import { groupFindings } from "../../examination/group-findings.ts";
import type { Diagnosis } from "../../doctor/diagnose.ts";
import type { Finding } from "../../doctor/finding.ts";
import type { Examination } from "../../examination/examine.ts";
import type { Link } from "../../linux/route/link.ts";
import type { NamespaceState, PodState } from "../../snapshot/snapshot.ts";
import { isVisible } from "../../text/visible.ts";
import { present } from "../../present.ts";
import { isDefaultCidr } from "../../address/ip.ts";

/** `blind`: something that decides could not be read. */
export type PodCondition = "well" | "warned" | "broken" | "blind";

export interface PicturePod {
  readonly name: string;
  /** A name under which the API can be asked about it: its own may hold what no question may. */
  readonly ask: string;
  /** Without prefix length. */
  readonly addresses: readonly string[];
  /** Host side of its veth, and the bridge that it is a port of. */
  readonly veth?: string;
  readonly bridge?: string;
  readonly condition: PodCondition;
  /** The answer in one sentence. */
  readonly answer: string;
  /** Where its packets end, or what is worth knowing: of the first finding. */
  readonly step?: StepName;
  readonly code?: string;
  /** The addresses that its packets leave with. */
  readonly leavesAs?: string;
}

export interface PictureLink {
  readonly name: string;
  readonly up: boolean;
  /** With prefix length. */
  readonly addresses: readonly string[];
}

export interface PictureUplink extends PictureLink {
  readonly gateways: readonly string[];
}

export interface PictureFinding {
  readonly code: string;
  readonly step: StepName;
  readonly text: string;
  readonly stopsTraffic: boolean;
  readonly severity: Finding["severity"];
  readonly owner: string;
  readonly fix: readonly { readonly command: string; readonly place?: string }[];
  readonly advice: readonly string[];
  /** How many pods it concerns, and the first of them. */
  readonly count: number;
  readonly pods: readonly string[];
}

export interface NodePicture {
  readonly takenAt: string;
  readonly kernel: string;
  /** undefined: it could not be read. */
  readonly forwarding: { readonly ipv4?: boolean; readonly ipv6?: boolean };
  readonly bridges: readonly PictureLink[];
  readonly uplinks: readonly PictureUplink[];
  readonly pods: readonly PicturePod[];
  /** The worst first. */
  readonly findings: readonly PictureFinding[];
}

/** The names of so many pods stand with a finding; it counts all. */
const MOST_NAMED = 8;
/** As long as a question to the API may be. */
const MOST_ASKED = 512;

export function pictureOf({ snapshot, diagnoses }: Examination): NodePicture {
  const { node } = snapshot;
  const byName = new Map(snapshot.pods.map((pod) => [pod.name, pod]));
  const pods = diagnoses.map((diagnosis) => podOf(node, byName.get(diagnosis.pod), diagnosis));
  const used = new Set(pods.flatMap(({ bridge }) => (bridge === undefined ? [] : [bridge])));
  return {
    takenAt: snapshot.takenAt,
    kernel: snapshot.kernelRelease,
    forwarding: forwardingOf(node),
    bridges: node.links.filter(({ name }) => used.has(name)).map((link) => linkOf(node, link)),
    uplinks: uplinksOf(node),
    pods: pods.toSorted(worstFirst),
    findings: findingsOf(diagnoses),
  };
}

const SEVERITY: readonly PodCondition[] = ["broken", "blind", "warned", "well"];

function worstFirst(a: PicturePod, b: PicturePod): number {
  const worse = SEVERITY.indexOf(a.condition) - SEVERITY.indexOf(b.condition);
  return worse === 0 ? a.name.localeCompare(b.name, "en", { numeric: true }) : worse;
}

function podOf(node: NamespaceState, pod: PodState | undefined, diagnosis: Diagnosis): PicturePod {
  const { findings, path, answer } = diagnosis;
  const first = findings.find((one) => one.stopsTraffic) ?? findings.find((one) => one.severity !== "note");
  const addresses = (pod?.state?.addresses ?? [])
    .filter(({ scope }) => scope === "global")
    .map(({ address }) => address);
  const veth = pod?.state === undefined ? undefined : hostLinkOf(node, pod.state);
  const bridge = node.links.find(({ index }) => index === veth?.master);
  const leavesAs = path.left
    ?.split(" ")[0]
    ?.replace(/:\d+$/, "")
    .replace(/^\[|\]$/g, "");
  return {
    name: diagnosis.pod,
    ask: askable(diagnosis.pod, pod?.aliases ?? [], addresses),
    addresses,
    ...present({
      veth: veth?.name,
      bridge: bridge?.name,
    }),
    condition: conditionOf(diagnosis, first),
    answer,
    ...(first === undefined ? {} : { step: catalogueEntry(first.code).step, code: first.code }),
    ...present({ leavesAs }),
  };
}

function conditionOf({ healthy, blind }: Diagnosis, first: Finding | undefined): PodCondition {
  if (!healthy) return "broken";
  if (blind) return "blind";
  return first === undefined ? "well" : "warned";
}

/** Its own name, unless a question could not hold it. */
function askable(name: string, aliases: readonly string[], addresses: readonly string[]): string {
  const fits = (text: string): boolean =>
    isVisible(text) && text.length <= MOST_ASKED && text !== "" && !text.startsWith("-");
  return [name, ...addresses, ...aliases].find(fits) ?? name;
}

function hostLinkOf(node: NamespaceState, inside: NamespaceState): Link | undefined {
  const linkAt = (at: number): Link | undefined => node.links.find(({ index }) => index === at);
  for (const end of inside.links) {
    const host = hostEndOf(linkAt, inside, end);
    if (host !== undefined) return host;
  }
  return undefined;
}

function forwardingOf({ sysctls }: NamespaceState): NodePicture["forwarding"] {
  const read = (name: string): boolean | undefined =>
    sysctls[name] === undefined ? undefined : sysctls[name] !== "0";
  const [ipv4, ipv6] = [read("net.ipv4.ip_forward"), read("net.ipv6.conf.all.forwarding")];
  return present({ ipv4, ipv6 });
}

function linkOf(node: NamespaceState, { name, up, index }: Link): PictureLink {
  const addresses = node.addresses
    .filter((one) => one.interface === index && one.scope === "global")
    .map(({ address, prefixLength }) => `${address}/${prefixLength}`);
  return { name, up, addresses };
}

/** Where default routes lead to. */
function uplinksOf(node: NamespaceState): PictureUplink[] {
  const ways = node.routes.filter(
    ({ destination, type }) => type === "unicast" && isDefaultCidr(destination),
  );
  return node.links.flatMap((link) => {
    const own = ways.filter((one) => one.interface === link.index);
    if (own.length === 0) return [];
    const gateways = own.flatMap(({ gateway }) => (gateway === undefined ? [] : [gateway]));
    return [{ ...linkOf(node, link), gateways: [...new Set(gateways)] }];
  });
}

function findingsOf(diagnoses: readonly Diagnosis[]): PictureFinding[] {
  return groupFindings(diagnoses).map(({ finding, pods: all }): PictureFinding => {
    // The same thing may be wrong of a pod twice: over IPv4 and over IPv6.
    const pods = [...new Set(all)];
    return {
      code: finding.code,
      step: catalogueEntry(finding.code).step,
      text: finding.text,
      stopsTraffic: finding.stopsTraffic,
      severity: finding.severity,
      owner: finding.owner,
      fix: finding.fix.map(({ command, place }) => present({ command, place })),
      advice: finding.advice ?? [],
      count: pods.length,
      pods: pods.slice(0, MOST_NAMED),
    };
  });
}
