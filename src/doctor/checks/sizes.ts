/** Will large packets get through as well as small ones? */
import { chainText } from "../../linux/nftables/text/place.ts";
import { command } from "../../text/command.ts";
import { deafToTheNode } from "../too-large-message.ts";
import { finding, type Check, type CheckContext } from "../check.ts";
import type { Link } from "../../linux/route/link.ts";
import type { Evidence, Finding } from "../finding.ts";
import { routeText } from "../predict/fib.ts";
import { smallerPackets } from "../smaller-packets.ts";

export const sizes: Check = {
  step: "mtu",
  codes: ["mtu-too-large", "mtu-black-hole", "checksum-errors"],
  run: (context) => [...mtu(context), ...checksums(context)],
};

/** What the pod sends at most in one packet: its route's MTU, or its interface's. */
export function largestPacket({ path, inside, target }: CheckContext): number | undefined {
  const { podLink } = path;
  if (podLink === undefined) return undefined;
  const way = inside?.view.fib.predict({ destination: target.address });
  return way?.kind === "route" ? (way.mtu ?? podLink.mtu) : podLink.mtu;
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
