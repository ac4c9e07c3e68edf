/** Will large packets get through as well as small ones? */
import { chainText } from "../../linux/nftables/text/place.ts";
import { command } from "../../text/command.ts";
import { deafToTheNode } from "../too-large-message.ts";
import { familyFlag, finding, type Check, type CheckContext } from "../check.ts";
import type { Link } from "../../linux/route/link.ts";
import type { Evidence, Finding } from "../finding.ts";
import { routeText } from "../predict/fib.ts";
import { smallerPackets } from "../smaller-packets.ts";

export const sizes: Check = {
  step: "mtu",
  codes: ["mtu-too-large", "mtu-black-hole", "mtu-learned-small", "checksum-errors"],
  run: (context) => [...mtu(context), ...learnedSmall(context), ...checksums(context)],
};

/** What the pod sends at most in one packet: its route's MTU, or its interface's. */
export function largestPacket({ path, inside, target }: CheckContext): number | undefined {
  const { podLink } = path;
  if (podLink === undefined) return undefined;
  const way = inside?.view.fib.predict({ destination: target.address });
  return way?.kind === "route" ? (way.mtu ?? podLink.mtu) : podLink.mtu;
}

/** What a router has told the pod's kernel about the way to the destination (an exception in its route cache). */
export function learnedSize({ inside, target }: CheckContext): LearnedSize | undefined {
  const said = inside?.view.state.routeAnswers.find(({ query }) => query.destination === target.address);
  if (said?.answer.reachable !== true) return undefined;
  const { metrics, expiresSeconds, flags } = said.answer.route;
  // Routes of router advertisements end some time, too: only an exception is a clone.
  if (metrics.mtu === undefined || expiresSeconds === undefined || !flags.includes("cloned"))
    return undefined;
  return { mtu: metrics.mtu, seconds: expiresSeconds };
}

export interface LearnedSize {
  /** Of the whole IP packet. */
  readonly mtu: number;
  /** Until the kernel forgets it. */
  readonly seconds: number;
}

function mtu(context: CheckContext): Finding[] {
  const { podLink, outLink, pathMtu } = context.path;
  const own = largestPacket(context);
  if (podLink === undefined || own === undefined || outLink === undefined || pathMtu === undefined) return [];
  if (own <= pathMtu) return [];
  const fails = context.snapshot.node.counters.map(
    (reading) => reading.values[context.family === 4 ? "Ip.FragFails" : "Ip6.FragFails"] ?? 0,
  );
  const evidence = [
    { source: `mtu of ${podLink.name} in ${context.pod.name}`, value: String(own) },
    wayEvidence(context, outLink, pathMtu),
    { source: `${context.family === 4 ? "Ip" : "Ip6"} FragFails`, value: String(fails.at(-1) ?? 0) },
  ];
  const clamp = clampsMss(context);
  // With smaller segments no TCP packet is too large, and a dropped message about it does not matter.
  const deaf = clamp === undefined ? deafToTheNode(context, own, pathMtu) : undefined;
  if (deaf !== undefined) return [deaf];
  return [
    finding("mtu-too-large", {
      text: `${context.pod.name} sends packets of up to ${own} bytes, ${pathMtu < outLink.mtu ? `the node's route by ${outLink.name}` : outLink.name} takes ${pathMtu}`,
      owner: "the pod's network",
      evidence: clamp === undefined ? evidence : [...evidence, { source: "ruleset", value: clamp }],
      consequence:
        clamp === undefined
          ? "each large packet needs a “fragmentation needed” message to come back; where that is lost, transfers hang"
          : "TCP is told a smaller size by a rule; other protocols are not",
      ...smallerPackets(context, pathMtu),
      confidence: "likely",
    }),
  ];
}

/** The least that a link of today carries; tunnels leave more. Below it a message is forged, or its link is gone. */
const LEAST_USUAL_MTU = 1280;

/** A message that a large packet did not fit is believed for ten minutes, whoever sent it, and whatever changes meanwhile. */
function learnedSmall(context: CheckContext): Finding[] {
  const learned = learnedSize(context);
  const own = largestPacket(context);
  if (learned === undefined || own === undefined || learned.mtu >= Math.min(own, LEAST_USUAL_MTU)) return [];
  const { pod, target } = context;
  const where = `${target.address} in ${pod.name}`;
  return [
    finding("mtu-learned-small", {
      text: `${pod.name}'s kernel sends packets of at most ${learned.mtu} bytes to ${target.address}, because a router said so, for another ${learned.seconds} s`,
      owner: "a router on the way, or who plays one",
      evidence: [
        { source: `ip route get ${where}`, value: `cache expires ${learned.seconds}sec mtu ${learned.mtu}` },
        { source: "the pod's own route and link", value: String(own) },
      ],
      consequence:
        "TCP is slow with such small segments; datagrams that may not be cut (QUIC needs 1228 bytes) are refused in the pod",
      fix: [context.fix("pod", command`ip ${familyFlag(target.address)} route flush cache`)],
      advice: [
        `if it comes back: find the link of ${learned.mtu} bytes on the way (wayout trace ${pod.name} ${target.address}), or who forges “fragmentation needed”`,
      ],
      confidence: "likely",
    }),
  ];
}

/** Who says how much may leave: the link, or a route over it (which may have learned it from a router). */
function wayEvidence({ node, path }: CheckContext, link: Link, pathMtu: number): Evidence {
  const { routed, inLink } = path;
  if (pathMtu >= link.mtu || routed === undefined || inLink === undefined)
    return { source: `mtu of the way out (${link.name})`, value: String(link.mtu) };
  const { source, destination, mark } = routed;
  const way = node.view.fib.predict({ source, destination, mark, iif: inLink.name });
  if (way.route?.metrics.mtu === pathMtu)
    return { source: "ip route", value: routeText(way.route, node.view.state.links) };
  return {
    source: `ip route get ${destination}`,
    value: `mtu ${pathMtu}, which a router on the way has named`,
  };
}

/** A rule that rewrites the maximum segment size. */
function clampsMss(context: CheckContext): string | undefined {
  for (const table of context.node.hooks.tables) {
    for (const chain of table.chains) {
      for (const { expressions } of chain.rules) {
        const clamps = expressions.some(
          (one) =>
            (one.kind === "exthdr" && one.sreg !== undefined && one.type === 2) ||
            (one.kind === "target" && one.name === "TCPMSS"),
        );
        if (clamps) return `${chainText(table, chain)} sets the maximum segment size`;
      }
    }
  }
  return undefined;
}

function checksums(context: CheckContext): Finding[] {
  const values = context.snapshot.node.counters.map((reading) => reading.values["IpExt.InCsumErrors"] ?? 0);
  const growth = (values.at(-1) ?? 0) - (values[0] ?? 0);
  if (growth <= 0) return [];
  const tunnels = context.node.view.state.links.filter(
    (link) => context.snapshot.node.offloads[link.name]?.txChecksum === true,
  );
  return [
    finding("checksum-errors", {
      text: `${growth} packets with wrong checksums arrived while the doctor looked`,
      owner: "checksum offload",
      evidence: [{ source: "IpExt InCsumErrors", value: `${values[0]} → ${values.at(-1)}` }],
      consequence: "they are dropped silently",
      fix: tunnels.map((link) =>
        context.fix("node", command`ethtool -K ${link.name} tx-checksum-ip-generic off`),
      ),
      confidence: "possible",
    }),
  ];
}
