/**
 * A node with an uplink to an outside that has no route back to anybody's private addresses, like the real one.
 *
 *   node up0 203.0.113.5 ── outside 203.0.113.1, server on 198.51.100.80
 *            2001:db8:113::5         2001:db8:113::1,     2001:db8:198::80
 */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { deleteNamedNamespace, namedNamespaces } from "../../src/kernel/named-namespace.ts";
import { type NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run } from "../support/witness.ts";
import { buildNodeWorld, type NodeWorld } from "../support/node-world.ts";

export const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
export const UPLINK = { v4: "203.0.113.5", other4: "203.0.113.9", v6: "2001:db8:113::5" } as const;
export const SERVER = { v4: "198.51.100.80", v6: "2001:db8:198::80" } as const;
const PORT = 8080;
const TIMEOUT_MS = 60_000;
/** What a program gets at the end of its time: no test sends it, so it is known by that. */
const OUT_OF_TIME = "SIGALRM";

export interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

let count = 0;

/** Takes a namespace, its resolver file and what is remembered of attachments away behind the test. */
function forgetAfterwards(name: string): void {
  afterThisTest(() => {
    if (namedNamespaces().includes(name)) deleteNamedNamespace(name);
    for (const path of [`/etc/netns/${name}`, "/run/wayout"]) rmSync(path, { recursive: true, force: true });
  });
}

/** A name for a namespace that goes away after the test, whoever makes it. */
export function freshName(word = "blue"): string {
  const name = `${word}-${process.pid}-${++count}`;
  forgetAfterwards(name);
  return name;
}

export function namespaceCalled(name: string): string {
  forgetAfterwards(name);
  ask(undefined, ["ip", "netns", "add", name]);
  return name;
}

export function world(options: { readonly ipv6?: boolean } = {}): Pick<NodeWorld, "node" | "outside"> {
  const { node, outside } = buildNodeWorld({
    uplink: {
      name: "up0",
      outsideName: "internet0",
      addresses: [
        `${UPLINK.v4}/24`,
        `${UPLINK.other4}/24`,
        ...(options.ipv6 === true ? [`${UPLINK.v6}/64`] : []),
      ],
      outsideAddresses: ["203.0.113.1/24", "2001:db8:113::1/64"],
      gateways: ["203.0.113.1", ...(options.ipv6 === true ? ["2001:db8:113::1"] : [])],
    },
    servers: [`${SERVER.v4}/32`, `${SERVER.v6}/128`],
  });
  awaitLinkLocal(node, "up0");
  for (const hostname of ["0.0.0.0", "::"]) {
    const server = outside.run(() =>
      Bun.serve({
        hostname,
        port: PORT,
        ipv6Only: hostname === "::",
        fetch: (request, server) => new Response(server.requestIP(request)?.address),
      }),
    );
    afterThisTest(() => server.stop(true));
  }
  return { node, outside };
}

/** The kernel gives it as soon as it notices the carrier, up to a second later: it is part of the state before. */
export function awaitLinkLocal(namespace: NetworkNamespace, name: string): void {
  const deadline = performance.now() + TIMEOUT_MS;
  const show = ["ip", "-o", "-6", "address", "show", "dev", name, "scope", "link", "-tentative"];
  while (ask(namespace, show) === "") {
    if (performance.now() > deadline) throw new Error(`${name} got no link-local address`);
    Bun.sleepSync(10);
  }
}

export function ip(namespace: NetworkNamespace, lines: string): void {
  ask(namespace, ["ip", "-batch", "-"], lines);
}

/** Runs wayout on the node as a person does. */
export async function wayout(node: NetworkNamespace, ...args: string[]): Promise<Ended> {
  return ended(start(node, [WAYOUT, ...args]));
}

/** wayout that must succeed and print JSON. */
export async function wayoutJson<T>(node: NetworkNamespace, ...args: string[]): Promise<T> {
  const { exitCode, stdout, stderr } = await wayout(node, ...args, "--json");
  if (exitCode !== 0) throw new Error(`wayout ${args.join(" ")} ended with ${exitCode}: ${stdout}${stderr}`);
  return JSON.parse(stdout) as T;
}

export function start(
  node: NetworkNamespace,
  command: readonly string[],
  environment = process.env,
  timeout = TIMEOUT_MS,
) {
  const { FORCE_COLOR: _, ...plain } = environment;
  return node.run(() =>
    Bun.spawn([...command], {
      stdout: "pipe",
      stderr: "pipe",
      timeout,
      killSignal: OUT_OF_TIME,
      env: plain,
    }),
  );
}

export async function ended(child: ReturnType<typeof start>): Promise<Ended> {
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (child.signalCode === OUT_OF_TIME) {
    throw new Error(`a program ran into its limit of ${TIMEOUT_MS} ms. It said: ${stdout}${stderr}`);
  }
  return { exitCode, stdout, stderr };
}

/** The source that the server outside sees; undefined when no answer comes. */
export async function seenFrom(name: string, server: string = SERVER.v4): Promise<string | undefined> {
  const url = `http://${server.includes(":") ? `[${server}]` : server}:${PORT}/`;
  const child = Bun.spawn(
    ["ip", "netns", "exec", name, "curl", "-sS", "-g", "--noproxy", "*", "--max-time", "5", url],
    { stdout: "pipe", stderr: "pipe" },
  );
  const text = await new Response(child.stdout).text();
  return (await child.exited) === 0 ? text : undefined;
}

/** Everything on the node that an attachment can change. */
export function nodeState(node: NetworkNamespace): Readonly<Record<string, string>> {
  const state: Record<string, string> = {
    sysctls: ask(node, [
      "sh",
      "-c",
      "cd /proc/sys/net && grep -H . ipv4/ip_forward ipv4/conf/*/forwarding ipv6/conf/*/forwarding ipv6/conf/*/accept_ra",
    ]),
    iptables: run(node, ["iptables-save"]).stdout.replace(/^#.*$/gm, ""),
    files: ["/run/wayout", "/etc/netns"].map((path) => (existsSync(path) ? listed(path) : "")).join("\n"),
    namespaces: namedNamespaces().join(" "),
  };
  for (const what of ["link", "address", "route show table all", "-6 route show table all", "rule"]) {
    // Whether a link has a carrier the kernel tells up to a second late (net/core/link_watch.c).
    state[what] = ask(node, ["ip", "-o", ...what.split(" ")]).replace(/NO-CARRIER,|state \S+| linkdown/g, "");
  }
  state["nft"] = ask(node, ["nft", "-s", "list", "ruleset"]);
  return state;
}

/** Resolver files of other namespaces, such as a lab's, may come and go. */
function listed(directory: string): string {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((path) => directory !== "/etc/netns" || path.includes(`-${process.pid}-`))
    .toSorted()
    .join(" ");
}
