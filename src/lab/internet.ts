/**
 * The servers of the lab's internet, run as a process inside its namespace: a site that tells its visitors which
 * address it saw them come from, and a DNS server that knows the site's name.
 */
import * as dnsPacket from "dns-packet";
import { whenKeeperEnds } from "./keeper.ts";
import { last } from "./lasting.ts";
import { PLAN } from "./plan.ts";
import { present } from "../present.ts";

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

/** Opens the servers, and serves. @param argument what startLasting gave */
export function serveInternet(argument: string): Promise<never> {
  return last(argument, async () => {
    await openServers();
    whenKeeperEnds(() => process.exit(0));
  });
}

async function openServers(): Promise<void> {
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
        // The same, told later by ICMP: without a listener for it the process would end.
        error() {},
      },
    });
  }
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
  return dnsPacket.encode(
    present({
      type: "response",
      id: query.id,
      flags: dnsPacket.AUTHORITATIVE_ANSWER | dnsPacket.RECURSION_AVAILABLE | (known ? 0 : NXDOMAIN),
      questions: query.questions,
      answers,
    }),
  );
}
