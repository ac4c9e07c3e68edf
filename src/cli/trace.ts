import { writeFileSync } from "node:fs";
import { Command, Option } from "commander";
import { messageOf, WayoutError } from "../error.ts";
import { writePcapng } from "../linux/packet/pcapng.ts";
import { asCaller } from "../kernel/umask.ts";
import type { SeenPacket } from "../trace/evidence.ts";
import { tracePage } from "../trace/show/page.ts";
import { trace, type TraceRequest } from "../trace/trace.ts";
import { VERSION } from "../version.ts";
import { printJson, tell } from "./output.ts";
import { traceText } from "./trace-ladder.ts";
import { present } from "../present.ts";

const HELP = `
POD is a name of 'ip netns', a path of a namespace, pid:N, a container's name or id, namespace/pod, or a pod's address.
DEST is HOST, HOST:PORT, [ADDRESS]:PORT or http://HOST/PATH. Names are resolved as the pod resolves them.

A service's address is followed to the server to which a rule (DNAT) translates it. With --listen a connection from
DEST to a port that the node publishes for the pod is followed from outside to the pod and back.

Nothing on the node changes: captures, a short-lived nf_tables trace of this one flow, conntrack events, and as root the
kernel's own drop reasons. The exit code is 0 when it was answered, 1 when it was not.

Examples:
  wayout trace ns-blue 198.51.100.80:443              a TCP connection
  wayout trace shop/web-1 http://example.org/         fetch a page
  wayout trace ns-blue 198.51.100.53 --proto udp      a query to a name server
  wayout trace ns-blue 198.51.100.80 --proto icmp --size 1472   does a full packet pass?
  wayout trace ns-blue 198.51.100.80 --listen         send nothing, follow the next flow
  wayout trace shop/web-1 192.0.2.7 --listen          why can 192.0.2.7 not reach the port that the pod publishes?
  wayout trace ns-blue 198.51.100.80 --html path.html --pcap path.pcapng`;

interface Options {
  readonly proto?: string;
  readonly port?: string;
  readonly http?: boolean;
  readonly listen?: boolean;
  readonly size?: number;
  readonly timeout?: number;
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
  readonly pcap?: string;
  readonly html?: string;
  readonly json?: boolean;
}

/** `wayout trace POD DEST` */
export function traceCommand(): Command {
  return new Command("trace")
    .description(
      "send one real packet from a pod and show the nine steps of its way, or where and why it ends",
    )
    .argument("<pod>", "the pod that the packet is sent from")
    .argument("<destination>", "where the packet is sent to")
    .addOption(new Option("--proto <protocol>", "what to send").choices(["tcp", "udp", "icmp"]))
    .option("--port <port>", "destination port (default: 443 for tcp, 53 for udp; with --listen any)")
    .option("--http", "fetch a page once connected")
    .option("--size <bytes>", "payload of a UDP datagram or echo request, sent with DF set", sizeOf)
    .option("--listen", "send nothing: follow the next flow between the two, in either direction")
    .option(
      "--timeout <ms>",
      "how long to wait for an answer (default: 1500, with --listen 10000)",
      timeoutOf,
    )
    .option("-4, --ipv4", "only IPv4 addresses of a name")
    .option("-6, --ipv6", "only IPv6 addresses of a name")
    .option("--pcap <file>", "write the captured packets (pcapng)")
    .option("--html <file>", "write a page with the picture of the path")
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action(run);
}

function run(pod: string, destination: string, options: Options): void {
  const request: TraceRequest = present({
    pod,
    destination,
    protocol: options.proto,
    port: options.port,
    http: options.http || undefined,
    listen: options.listen || undefined,
    sizeBytes: options.size,
    timeoutMs: options.timeout,
    ...(options.ipv6 === true ? { family: 6 } : options.ipv4 === true ? { family: 4 } : {}),
  });
  const { report, packets } = trace(request);
  if (options.pcap !== undefined) write(options.pcap, writePcapng(frames(packets), `wayout ${VERSION}`));
  if (options.html !== undefined) write(options.html, tracePage(report));
  if (options.json === true) printJson(report);
  else tell(traceText, report);
  if (report.outcome === "stopped") process.exitCode = 1;
}

function frames(packets: readonly SeenPacket[]) {
  return packets.map((packet) => ({
    ...packet,
    place: `${packet.where}/${packet.interface}`,
    direction: packet.direction === "out" ? ("out" as const) : ("in" as const),
  }));
}

function write(path: string, content: string | Uint8Array): void {
  try {
    asCaller(() => writeFileSync(path, content));
  } catch (error) {
    throw new WayoutError({
      code: "cannot-write",
      kind: "machine",
      doing: `writing ${path}`,
      said: messageOf(error),
      cause: error,
    });
  }
}

function sizeOf(text: string): number {
  return numberBetween(text, "--size", 0, 65_507);
}

function timeoutOf(text: string): number {
  return numberBetween(text, "--timeout", 10, 600_000);
}

function numberBetween(text: string, option: string, low: number, high: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (number >= low && number <= high) return number;
  throw new WayoutError({
    code: "usage",
    kind: "usage",
    doing: "reading the command line",
    said: `${option} ${text} is not a number from ${low} to ${high}`,
  });
}
