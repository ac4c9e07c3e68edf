/**
 * Names as the pod resolves them: the nameservers of its own resolv.conf, asked from a socket in its own namespace. A
 * stub (RFC 1035): one question, no search list, no cache.
 */
import { command } from "../../text/command.ts";
import { readFileSync } from "node:fs";
import { isIp, ipFamily, ipText, type IpFamily } from "../../address/ip.ts";
import { messageOf, WayoutError } from "../../error.ts";
import { InetSocket } from "../../kernel/inet-socket.ts";
import * as libc from "../../kernel/libc.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import type { Pod } from "../../pods/pod.ts";

const DNS_PORT = 53;
const POLLIN = 1;
const TYPES = { 4: 1, 6: 28 } as const;

/** The resolver file that the pod's programs read: its own root's, or the one that `ip netns exec` would mount. */
export function resolvConfPath(pod: Pod): string {
  if (pod.pid !== undefined) return `/proc/${pod.pid}/root/etc/resolv.conf`;
  const name = /^\/run\/netns\/([^/]+)$/.exec(pod.path)?.[1];
  const own = name === undefined ? undefined : `/etc/netns/${name}/resolv.conf`;
  return own !== undefined && readText(own) !== undefined ? own : "/etc/resolv.conf";
}

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
  const hosts = hostsFile(pod);
  const known = addressInHosts(readText(hosts) ?? "", name, family);
  if (known !== undefined) return { address: known, file: hosts };
  const file = resolvConfPath(pod);
  const nameservers = nameserversOf(readText(file) ?? "");
  const tried: string[] = nameservers.length === 0 ? [`${file} names no nameserver`] : [];
  for (const nameserver of nameservers) {
    for (const wanted of family === undefined ? ([4, 6] as const) : [family]) {
      const answer = ask(namespace, nameserver, name, wanted, timeoutMs / nameservers.length / 2);
      if ("address" in answer) return { address: answer.address, nameserver, file };
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

function hostsFile(pod: Pod): string {
  return pod.pid === undefined ? "/etc/hosts" : `/proc/${pod.pid}/root/etc/hosts`;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** resolv.conf(5). Zones of link-local addresses are left out: they mean nothing in another namespace. */
export function nameserversOf(text: string): string[] {
  return [...text.matchAll(/^[ \t]*nameserver[ \t]+([^\s%]+)/gm)].map((match) => match[1]!).filter(isIp);
}

function addressInHosts(text: string, name: string, family: IpFamily | undefined): string | undefined {
  for (const line of text.split("\n")) {
    const [address, ...names] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (address === undefined || !isIp(address) || !names.includes(name)) continue;
    if (family === undefined || ipFamily(address) === family) return address;
  }
  return undefined;
}

type Answer = { readonly address: string } | { readonly said: string };

function ask(
  namespace: NetworkNamespace,
  nameserver: string,
  name: string,
  family: IpFamily,
  timeoutMs: number,
): Answer {
  using socket = InetSocket.open(namespace, "udp", ipFamily(nameserver));
  const id = Math.floor(Math.random() * 65_536);
  try {
    socket.connect({ address: nameserver, port: DNS_PORT });
    socket.send(question(id, name, TYPES[family]));
    const deadline = performance.now() + timeoutMs;
    for (let left = timeoutMs; left > 0; left = deadline - performance.now()) {
      if (libc.poll([{ fd: socket.fd, events: POLLIN, revents: 0 }], Math.ceil(left)) === 0) continue;
      const answer = readAnswer(socket.receive() ?? new Uint8Array(), id, TYPES[family]);
      if (answer !== undefined) return answer;
    }
    return { said: `no answer within ${Math.round(timeoutMs)} ms` };
  } catch (error) {
    return { said: messageOf(error) };
  }
}

/** A query for one record with recursion desired. @throws WayoutError bad-destination for a name DNS cannot hold */
export function question(id: number, name: string, type: number): Uint8Array {
  const labels = name.replace(/\.$/, "").split(".");
  if (labels.some((label) => label.length === 0 || label.length > 63) || name.length > 253) {
    throw new WayoutError({
      code: "bad-destination",
      kind: "usage",
      doing: `resolving "${name}"`,
      said: "that is no name in DNS",
    });
  }
  const encoded = labels.flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Uint8Array.of(id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...encoded, 0, 0, type, 0, 1);
}

const RESPONSE_CODES = ["", "format error", "server failure", "no such name", "not implemented", "refused"];

/** undefined when the datagram is not the answer to this question. */
function readAnswer(bytes: Uint8Array, id: number, type: number): Answer | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || view.getUint16(0) !== id || (bytes[2]! & 0x80) === 0) return undefined;
  const code = bytes[3]! & 15;
  if (code !== 0) return { said: RESPONSE_CODES[code] ?? `response code ${code}` };
  try {
    let at = 12;
    for (let left = view.getUint16(4); left > 0; left--) at = skipName(view, at) + 4;
    for (let left = view.getUint16(6); left > 0; left--) {
      at = skipName(view, at);
      const length = view.getUint16(at + 8);
      if (view.getUint16(at) === type) return { address: ipText(bytes, at + 10, at + 10 + length) };
      at += 10 + length;
    }
  } catch {
    return { said: "an answer that cannot be read" };
  }
  return { said: `no ${type === 1 ? "A" : "AAAA"} record` };
}

/** Behind a name, compressed or not. @throws RangeError past the end */
function skipName(view: DataView, start: number): number {
  for (let at = start; ; at += 1 + view.getUint8(at)) {
    const length = view.getUint8(at);
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2;
  }
}
