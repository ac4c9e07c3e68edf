/**
 * The servers of the lab's internet, run as a process inside its namespace: a site that tells its visitors which
 * address it saw them come from, and a DNS server that knows the site's name.
 */
import * as dnsPacket from "dns-packet";
import { read, writeSync } from "node:fs";
import * as libc from "../kernel/libc.ts";
import { whenKeeperEnds } from "./keeper.ts";
import { PLAN } from "./plan.ts";

const HTTP_PORT = 80;
const DNS_PORT = 53;
/** Seconds a resolver may remember an answer. Short: the lab changes under its visitors. */
const TTL_SECONDS = 5;

/** What the site answers: enough to see what NAT did. */
export interface SiteAnswer {
  readonly site: string;
  /** The visitor's address and port as the server saw them. */
  readonly seen: { readonly address: string; readonly port: number };
}

/**
 * Opens the servers, says that they listen, and serves until the process ends.
 * @param toParent descriptor to say so through: one byte, and another when we have become independent
 * @param fromParent descriptor that brings a byte when we shall outlive our parent; until then we die with it
 */
export async function serveInternet(toParent: number, fromParent: number): Promise<never> {
  for (const hostname of [PLAN.internet.httpIpv4, PLAN.internet.httpIpv6]) {
    Bun.serve({
      hostname,
      port: HTTP_PORT,
      fetch(request, server) {
        const seen = server.requestIP(request);
        const answer: SiteAnswer = {
          site: new URL(request.url).hostname,
          seen: { address: seen?.address ?? "", port: seen?.port ?? 0 },
        };
        return Response.json(answer, { headers: { connection: "close" } });
      },
    });
  }
  for (const hostname of [PLAN.internet.dnsIpv4, PLAN.internet.dnsIpv6]) {
    await Bun.udpSocket({
      hostname,
      port: DNS_PORT,
      socket: {
        data(socket, query, port, address) {
          const answer = answerQuery(query);
          if (answer === undefined) return;
          try {
            socket.send(answer, port, address);
          } catch {
            // Nobody here has a route to a source that was not translated; the next visitor's question counts.
          }
        },
        // The same, told later by ICMP: without somebody who listens for it the process would end.
        error() {},
      },
    });
  }
  libc.daemonize();
  whenKeeperEnds(() => process.exit(0));
  writeSync(toParent, "r");
  // In the story nobody ever writes; the read must not stop the servers.
  read(fromParent, Buffer.alloc(1), 0, 1, null, (_error, length) => {
    if (length !== 1) return;
    const PR_SET_PDEATHSIG = 1;
    libc.prctl(PR_SET_PDEATHSIG, 0);
    writeSync(toParent, "k");
  });
  return new Promise<never>(() => {});
}

/** The DNS answer to a query: the site's addresses, or NXDOMAIN. undefined for what is no query. */
export function answerQuery(bytes: Buffer): Buffer | undefined {
  let query: dnsPacket.Packet;
  try {
    query = dnsPacket.decode(bytes);
  } catch {
    return undefined;
  }
  if (query.type !== "query") return undefined;
  const NXDOMAIN = 3;
  const known = (query.questions ?? []).some(({ name }) => name.toLowerCase() === PLAN.internet.site);
  const answers = (query.questions ?? []).flatMap(({ name, type }): dnsPacket.Answer[] => {
    if (!known) return [];
    if (type === "A") return [{ name, type, ttl: TTL_SECONDS, data: PLAN.internet.httpIpv4 }];
    if (type === "AAAA") return [{ name, type, ttl: TTL_SECONDS, data: PLAN.internet.httpIpv6 }];
    return [];
  });
  return dnsPacket.encode({
    type: "response",
    ...(query.id === undefined ? {} : { id: query.id }),
    flags: dnsPacket.AUTHORITATIVE_ANSWER | dnsPacket.RECURSION_AVAILABLE | (known ? 0 : NXDOMAIN),
    ...(query.questions === undefined ? {} : { questions: query.questions }),
    answers,
  });
}
