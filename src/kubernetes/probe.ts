/**
 * Whether packets really pass: a pod of the agent's own, made by the plugin as a runtime would make it, asks the node and
 * is answered; and other nodes answer to an address of ours that only their routes lead back to.
 */
import { addressOf, familyOf, type IpFamily } from "../address/ip.ts";
import { messageOf } from "../error.ts";
import { EchoSocket } from "../kernel/echo.ts";
import { createNamespace } from "../kernel/named-namespace.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { programPath } from "../cni/placement.ts";
import type { PluginConfiguration } from "./cni-step.ts";
import { present } from "../present.ts";

/** Nobody else's pod: DEL of this name takes away what a run that was killed left behind. */
const CONTAINER = "wayout-probe";
const INTERFACE = "eth0";
const PLUGIN_MS = 20_000;
const ANSWER_MS = 2_000;
const ASK_EVERY_MS = 200;
const LOOK_EVERY_MS = 10;

/**
 * @param destinations an address of the node for each family
 * @returns why the chain pod → bridge → node → back does not work; undefined: it does
 */
export async function probeChain(
  node: NetworkNamespace,
  plugin: PluginConfiguration,
  binDirectory: string,
  destinations: readonly string[],
): Promise<string | undefined> {
  const call = (command: string, netns?: string): Promise<string | undefined> =>
    callPlugin(node, plugin, present({ command, binDirectory, netns }));
  const before = await call("DEL");
  if (before !== undefined) return `its DEL fails: ${before}`;
  using pod = createNamespace();
  try {
    const refusal = await call("ADD", `/proc/${process.pid}/fd/${pod.fd}`);
    if (refusal !== undefined) return `the plugin's ADD fails: ${refusal}`;
    for (const destination of destinations) {
      const answered = await answering(pod, familyOf(destination), [destination]);
      if (!answered.has(destination))
        return `a pod's packet to ${destination}, the node's own address, is not answered over IPv${familyOf(destination)}`;
    }
    return undefined;
  } catch (error) {
    return messageOf(error);
  } finally {
    await call("DEL");
  }
}

/**
 * Which of these addresses answer, as soon as one has, or after two seconds.
 * @param source the address that is asked from
 */
export async function answering(
  namespace: NetworkNamespace,
  family: IpFamily,
  destinations: readonly string[],
  source?: string,
): Promise<ReadonlySet<string>> {
  using socket = new EchoSocket(namespace, family, source === undefined ? undefined : addressOf(source));
  const asked = new Set(destinations);
  const deadline = performance.now() + ANSWER_MS;
  for (let next = 0; performance.now() < deadline; await Bun.sleep(LOOK_EVERY_MS)) {
    if (performance.now() >= next) {
      next = performance.now() + ASK_EVERY_MS;
      for (const destination of destinations) trySend(socket, destination);
    }
    const answered = socket.replies().filter((address) => asked.has(address));
    if (answered.length > 0) return new Set(answered);
  }
  return new Set();
}

/** What cannot even leave is not answered. */
function trySend(socket: EchoSocket, destination: string): void {
  try {
    socket.send(destination);
  } catch {
    // Asked again a moment later, and told as silent.
  }
}

interface PluginCall {
  readonly command: string;
  readonly binDirectory: string;
  readonly netns?: string;
}

/** The plugin that runtimes call. @returns what it said when it failed */
async function callPlugin(
  node: NetworkNamespace,
  plugin: PluginConfiguration,
  { command, binDirectory, netns }: PluginCall,
): Promise<string | undefined> {
  const child = node.run(() =>
    Bun.spawn([programPath(binDirectory)], {
      stdin: Buffer.from(JSON.stringify(plugin)),
      stdout: "pipe",
      stderr: "pipe",
      timeout: PLUGIN_MS,
      killSignal: "SIGKILL",
      env: present({
        PATH: process.env["PATH"] ?? "",
        CNI_COMMAND: command,
        CNI_CONTAINERID: CONTAINER,
        CNI_IFNAME: INTERFACE,
        CNI_PATH: binDirectory,
        CNI_NETNS: netns,
      }),
    }),
  );
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (exitCode === 0) return undefined;
  return (wordsOf(stdout) ?? stderr.trim()) || `it ended with ${exitCode}`;
}

/** A plugin's error is JSON: `msg` and, where there is more to say, `details`. */
function wordsOf(stdout: string): string | undefined {
  try {
    const { msg, details } = JSON.parse(stdout) as { readonly msg?: unknown; readonly details?: unknown };
    const words = [msg, details].filter((one) => typeof one === "string" && one !== "");
    return words.length === 0 ? undefined : words.join(" ");
  } catch {
    return undefined;
  }
}
