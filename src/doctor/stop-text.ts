/** Where a packet ends, in half a sentence. */
import { decisionChain } from "./wording.ts";
import { virtualServiceText } from "./predict/ipvs.ts";
import type { Stop } from "./predict/path.ts";
import { ruleOfOwner } from "./whose.ts";

export function stopText(stop: Stop): string {
  const where = stop.place === "pod" ? "in the pod" : "on the node";
  switch (stop.kind) {
    case "no-interface":
      return "the pod has no interface";
    case "no-address":
      return `${stop.link.name} ${where} has no IPv${stop.family} address`;
    case "no-route":
      return `there is no route to ${stop.destination} ${where} (${stop.error})`;
    case "link-down":
      return `${stop.link.name} ${where} is down`;
    case "no-carrier":
      return `${stop.link.name} ${where} has no carrier`;
    case "port-blocked":
      return `bridge port ${stop.link.name} is ${stop.state}`;
    case "port-isolated":
      return `bridge ports ${stop.link.name} and ${stop.other.name} are isolated`;
    case "not-enslaved":
      return `${stop.link.name} is in no bridge`;
    case "gateway-unowned":
      return `no interface has the gateway address ${stop.gateway}`;
    case "gateway-silent":
      return `${stop.link.name} does not answer for ${stop.gateway} (${stop.by.sysctl} is ${stop.by.value})`;
    case "loopback-destination":
      return `${stop.destination} is a loopback address, and route_localnet is 0 on ${stop.link.name}`;
    case "wrong-neighbour":
      return `${stop.address} is fixed at the wrong MAC address ${stop.mac} ${where}`;
    case "link-noarp":
      return `ARP is off on ${stop.link.name} ${where}`;
    case "neighbour-failed":
      return `${stop.address} does not answer on ${stop.link.name}`;
    case "filtered": {
      const verb = stop.stop.kind === "queue" ? "queues" : "drops";
      const { by } = stop.stop;
      const which = by.rule === undefined ? "the policy" : ruleOfOwner(by);
      return `${which} in ${decisionChain(by)} ${verb} it`;
    }
    case "forwarding-off":
      return `${stop.sysctl} is 0`;
    case "reverse-path":
      return `rp_filter on ${stop.link.name} refuses ${stop.source}`;
    case "answer-from-another":
      return `the answer comes from ${stop.source}, and the pod asked ${stop.expected}`;
    case "martian-source":
      return `a routing table has ${stop.source} as ${stop.type}, so that nothing with that source may come in by ${stop.link.name}`;
    case "no-gateway-address":
      return `${stop.link.name} has no address to answer with`;
    case "hairpin-off":
      return `${stop.link.name} may not send frames back out of the port they came by`;
    case "own-source":
      return `it comes back to the pod with the pod's own address ${stop.source}`;
    case "untranslated":
      return `no rule translates ${stop.source}, and no router outside has a route back to it`;
    case "program-detached":
      return `wayout's program at the ${stop.side} of ${stop.link.name} is not attached`;
    case "program-without-address":
      return `wayout's program finds no address on ${stop.link.name} to leave with`;
    case "foreign-source":
      return `it leaves as ${stop.source}, which is not the node's`;
    case "source-unanswered":
      return `it leaves as ${stop.source}, which the neighbours of ${stop.link.name} ask for without an answer`;
    case "answer-unrecognized":
      return stop.why === "zone"
        ? `the answer is looked up in conntrack zone ${stop.answerZone}, the flow is in zone ${stop.flowZone}`
        : "a rule keeps the answer out of connection tracking";
    case "ttl-exceeded":
      return `its TTL is ${stop.ttl}`;
    case "ipsec":
      return stop.why === "refused"
        ? `an IPsec policy ${where} refuses it`
        : stop.why === "unprotected"
          ? `an IPsec policy ${where} takes it only encrypted`
          : `an IPsec policy ${where} wants it encrypted, and no connection is up that does it`;
    case "no-server":
      return `none of the servers of virtual service ${virtualServiceText(stop.service)} (IPVS) gets connections`;
    case "proxy-without-route":
      return "a transparent proxy takes it and no route brings it there";
    case "astray":
      return `the way back to ${stop.address} leads to ${stop.link.name}`;
  }
}
