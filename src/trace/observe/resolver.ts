/**
 * Names as the pod resolves them: the nameservers of its own resolv.conf, asked from a socket in its own namespace. A
 * stub (RFC 1035): one question, no search list, no cache; over TCP where the answer does not fit into a datagram.
 */
import { command } from "../../text/command.ts";
import { isIp, ipFamily, type IpFamily } from "../../address/ip.ts";
import { messageOf, WayoutError } from "../../error.ts";
import { InetSocket } from "../../kernel/inet-socket.ts";
import * as libc from "../../kernel/libc.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { askedNameservers, parseResolvConf } from "../../linux/resolv-conf.ts";
import { errnoText } from "../../linux/errno.ts";
import { POLLIN, POLLOUT } from "../../linux/socket.ts";
import { readEtcFile } from "../../pods/pod-file.ts";
import type { Pod } from "../../pods/pod.ts";
import { question, readAnswer, type DnsAnswer } from "./dns-message.ts";

const DNS_PORT = 53;
/** Before each message over TCP stands its length, as 16 bits (RFC 1035 4.2.2). */
const LENGTH_BYTES = 2;

/** What `resolve` found, and whom it asked. */
export interface Resolution {
  readonly address: string;
  /** Absent for the hosts file. */
  readonly nameserver?: string;
  /** Where the nameservers, or the address, stood. */
  readonly file: string;
}

/**
 * The address of a name, as the pod would get it.
 * @throws WayoutError name-not-resolved, with what each nameserver did
 */
export function resolve(
  pod: Pod,
  namespace: NetworkNamespace,
  name: string,
  family: IpFamily | undefined,
  timeoutMs: number,
): Resolution {
  const tried: string[] = [];
  const read = (file: "hosts" | "resolv.conf"): { readonly path: string; readonly text: string } => {
    try {
      return readEtcFile(pod, file);
    } catch (error) {
      tried.push(`the pod's /etc/${file}: ${messageOf(error)}`);
      return { path: `/etc/${file}`, text: "" };
    }
  };
  const hosts = read("hosts");
  const known = addressInHosts(hosts.text, name, family);
  if (known !== undefined) return { address: known, file: hosts.path };
  const { path: file, text } = read("resolv.conf");
  const nameservers = askedNameservers(parseResolvConf(text));
  if (nameservers.length === 0) tried.push(`${file} names no nameserver`);
  for (const nameserver of nameservers) {
    for (const wanted of family === undefined ? ([4, 6] as const) : [family]) {
      const answer = ask(namespace, nameserver, name, wanted, timeoutMs / nameservers.length / 2);
      if (answer.kind === "address") return { address: answer.address, nameserver, file };
      tried.push(`${nameserver}: ${answer.said}`);
    }
  }
  throw new WayoutError({
    code: "name-not-resolved",
    kind: "broken",
    doing: `resolving ${name} as ${pod.name} does`,
    said: tried.join("; "),
    todo: `Trace the nameserver itself (${command`wayout trace ${pod.name} ${nameservers[0] ?? "ADDRESS"} --proto udp --port 53` ?? "--proto udp --port 53"}), or give an address.`,
    details: { nameservers, file },
  });
}

function addressInHosts(text: string, name: string, family: IpFamily | undefined): string | undefined {
  for (const line of text.split("\n")) {
    const [address, ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (address === undefined || !isIp(address) || !names.includes(name)) continue;
    if (family === undefined || ipFamily(address) === family) return address;
  }
  return undefined;
}

type Told = Exclude<DnsAnswer, { readonly kind: "truncated" }>;

function ask(
  namespace: NetworkNamespace,
  nameserver: string,
  name: string,
  family: IpFamily,
  timeoutMs: number,
): Told {
  const asked = { id: crypto.getRandomValues(new Uint16Array(1))[0]!, name, family };
  const query = question(asked.id, name, family);
  const deadline = performance.now() + timeoutMs;
  try {
    for (const over of [askByDatagram, askByStream]) {
      using socket = InetSocket.open(namespace, over === askByStream ? "tcp" : "udp", ipFamily(nameserver));
      const begun = socket.connect({ address: nameserver, port: DNS_PORT });
      const answer = over(socket, query, begun, deadline, (message) => readAnswer(message, asked));
      if (answer === undefined) return { kind: "none", said: `no answer within ${Math.round(timeoutMs)} ms` };
      if (answer.kind !== "truncated") return answer;
    }
    return { kind: "none", said: "an answer that is cut off, over TCP as well" };
  } catch (error) {
    return { kind: "none", said: messageOf(error) };
  }
}

type Read = (message: Uint8Array) => DnsAnswer | undefined;

/** A connected socket hears only the server that was asked. Datagrams that are no answer are passed over. */
function askByDatagram(
  socket: InetSocket,
  query: Uint8Array,
  _connected: boolean,
  deadline: number,
  read: Read,
): DnsAnswer | undefined {
  socket.send(query);
  while (waitFor(socket, POLLIN, deadline)) {
    const message = socket.receive();
    const answer = message === undefined ? undefined : read(message);
    if (answer !== undefined) return answer;
  }
  return undefined;
}

function askByStream(
  socket: InetSocket,
  query: Uint8Array,
  connected: boolean,
  deadline: number,
  read: Read,
): DnsAnswer | undefined {
  if (!connected && !waitFor(socket, POLLOUT, deadline)) return undefined;
  const failure = socket.pendingError();
  if (failure !== 0) return { kind: "none", said: `${errnoText(failure)}, over TCP` };
  socket.send(Uint8Array.of(query.length >> 8, query.length & 255, ...query));
  let came = new Uint8Array();
  while (waitFor(socket, POLLIN, deadline)) {
    const part = socket.receive();
    if (part === undefined) continue;
    if (part.length === 0) return { kind: "none", said: "closed the connection without an answer" };
    came = new Uint8Array([...came, ...part]);
    const end =
      came.length < LENGTH_BYTES ? Number.POSITIVE_INFINITY : LENGTH_BYTES + ((came[0]! << 8) | came[1]!);
    if (came.length >= end) {
      return read(came.subarray(LENGTH_BYTES, end)) ?? { kind: "none", said: "an answer to something else" };
    }
  }
  return undefined;
}

/** False when the time is over. */
function waitFor(socket: InetSocket, events: number, deadline: number): boolean {
  const left = deadline - performance.now();
  return left > 0 && libc.poll([{ fd: socket.fd, events, revents: 0 }], Math.ceil(left)) > 0;
}
