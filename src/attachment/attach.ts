/**
 * Room `attachment/`: `wayout attach`: a namespace of this node gets a way out, or everything stays as it was.
 *
 * In: a namespace, and wishes about bridge, subnet, address, translation.
 * Out: an attachment with what was made, notes, and problems (health.ts) where it does not work.
 * Touches: the namespace; a bridge, forwarding, NAT rules; /run/wayout/attachments and /etc/netns/NAME/resolv.conf.
 *   Recorded before it is made, so that the next command can undo what a killed one left.
 */
import { familyOf, addressOf } from "../address/ip.ts";
import { BACKENDS } from "../nat/backends/backends.ts";
import { command, commandIn } from "../text/command.ts";
import { existsSync } from "node:fs";
import { messageOf, WayoutError } from "../error.ts";
import { SystemError } from "../linux/errno.ts";
import { namedNamespaces } from "../kernel/named-namespace.ts";
import { NETNS_DIRECTORY, NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { openNat } from "../nat/open.ts";
import { build, networkOf, withAttachment } from "./build.ts";
import { attachmentProblems } from "./inspect.ts";
import type { AttachmentNode } from "./node.ts";
import { outsideOf, type Outside } from "../ways-out/outside.ts";
import { natIntentOf } from "./translation.ts";
import { givenUpBecause, podRoute } from "../pods/pod-socket.ts";
import { hasDefaultRoute, planAttachment } from "./plan.ts";
import type { Problem } from "../ways-out/problem.ts";
import type { AttachmentRecord, NetworkRecord, NodeRecord } from "./record.ts";
import { checkRequest, pathOfLabel, type AttachRequest } from "./request.ts";
import { planResolver } from "./resolver.ts";
import { withSettings } from "./settings.ts";
import { recover, takeBack } from "./take-back.ts";
import { present } from "../present.ts";

export interface Attached {
  readonly attachment: AttachmentRecord;
  readonly network: NetworkRecord;
  /** False when everything was there already and in order. */
  readonly changed: boolean;
  /** What was broken and is mended now; empty for a new attachment. */
  readonly mended: readonly Problem[];
  /** As whom it is seen outside, one for each address. */
  readonly outside: readonly Outside[];
  /** What the person should know although nothing is wrong. */
  readonly notes: readonly string[];
}

/**
 * @param signal ends it while it waits for another command; once begun, it is done or undone as a whole
 * @throws WayoutError; then nothing is left of the attempt
 */
export async function attach(
  node: AttachmentNode,
  request: AttachRequest,
  signal?: AbortSignal,
): Promise<Attached> {
  const checked = checkRequest(request);
  const doing = `attaching ${checked.namespace}`;
  return node.store.locked(doing, () => attachAlone(node, checked, doing), signal);
}

function attachAlone(node: AttachmentNode, request: AttachRequest, doing: string): Attached {
  let record = recover(node, node.store.read());
  const label = request.namespace;
  using pod = openRequested(request, doing);
  const old = record.attachments.find((attachment) => attachment.label === label);
  if (old !== undefined) {
    if (pod !== undefined && pod.cookie === old.cookie) return keep(node, record, request, old, pod, doing);
    // The name is the old one, the namespace behind it is another, or none.
    record = takeBack(node, record, old).record;
  }
  if (pod !== undefined) checkPod(node, record, request, pod, doing);
  const plan = planAttachment(request, record, node.route);
  checkBackend(node, plan.network);
  const resolver = planResolver(label, request.nameServers, resolverDirectories(record));
  const attachment: AttachmentRecord = {
    ...plan.attachment,
    ...(pod === undefined ? { created: true, madeDirectory: madeDirectory(record) } : { cookie: pod.cookie }),
    raisedLoopback: pod === undefined || !isLoopbackUp(pod),
    ...present({ resolver: resolver.file }),
  };
  const planned = withAttachment(withSettings(node, record, plan.network), attachment, plan.network);
  const done = carryOut(node, planned, attachment);
  const notes = [...plan.notes, ...(resolver.note === undefined ? [] : [resolver.note])];
  return told(node, { ...done, changed: true, mended: [], notes });
}

/** Asks the backend something that it cannot answer where it cannot work either, before anything is made. */
function checkBackend(node: AttachmentNode, network: NetworkRecord): void {
  using nat = openNat(network.backend, node.namespace);
  nat.intents();
}

/** With what the node itself can do for it. The attachment stands by now; not to know this must not make it fail. */
function told(node: AttachmentNode, done: Omit<Attached, "outside">): Attached {
  const { attachment, network, notes } = done;
  const intents = BACKENDS[network.backend].translates ? [natIntentOf(network, [attachment])] : [];
  let outside: Outside[];
  try {
    outside = attachment.addresses.map((text) => outsideOf(node.route, addressOf(text), intents));
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    return { ...done, outside: [], notes: [...notes, `where it leads is not known: ${error.message}`] };
  }
  const stranded = attachment.addresses.filter((_, index) => outside[index]!.interface === undefined);
  if (stranded.length === 0) return { ...done, outside };
  const families = stranded.map((address) => (familyOf(address) === 6 ? "IPv6" : "IPv4"));
  const note = `this machine has no default route (${families.join(", ")}): neither it nor the namespace reaches anything outside`;
  return { ...done, outside, notes: [...notes, note] };
}

/** Remembers, makes, remembers that it is made; or takes everything back. */
function carryOut(
  node: AttachmentNode,
  record: NodeRecord,
  attachment: AttachmentRecord,
): Pick<Attached, "attachment" | "network"> {
  node.store.write(record);
  try {
    const built = build(node, record, attachment);
    node.store.write(built);
    const made = built.attachments.find(({ label }) => label === attachment.label)!;
    return { attachment: made, network: networkOf(built, made) };
  } catch (error) {
    const known = node.store.read();
    const begun = known.attachments.find(({ label }) => label === attachment.label);
    try {
      if (begun !== undefined) takeBack(node, known, begun);
    } catch (again) {
      throw withLeftovers(error, again);
    }
    throw error;
  }
}

/** Both failures, so that nobody has to guess what is left. */
function withLeftovers(error: unknown, again: unknown): unknown {
  if (!(error instanceof WayoutError)) return error;
  const { code, kind, doing, said, details } = error;
  return new WayoutError(
    present({
      code,
      kind,
      doing,
      said: `${said}; and taking it back: ${messageOf(again)}`,
      todo: "The next 'wayout attach' or 'wayout detach' takes back what is left.",
      cause: error,
      details,
    }),
  );
}

/** The same namespace again: everything may stand already, or need mending. */
function keep(
  node: AttachmentNode,
  record: NodeRecord,
  request: AttachRequest,
  old: AttachmentRecord,
  pod: NetworkNamespace,
  doing: string,
): Attached {
  const network = networkOf(record, old);
  checkSame(request, old, network, doing);
  const mended = attachmentProblems(node, record, old, pod);
  if (mended.length === 0) {
    return told(node, { attachment: old, network, changed: false, mended, notes: [] });
  }
  const again: AttachmentRecord = { ...old, phase: "attaching" };
  const done = carryOut(node, withAttachment(withSettings(node, record, network), again), again);
  return told(node, { ...done, changed: true, mended, notes: [] });
}

function checkSame(
  request: AttachRequest,
  old: AttachmentRecord,
  network: NetworkRecord,
  doing: string,
): void {
  const own = old.addresses.map((text) => addressOf(text));
  const wanted: readonly (readonly [string, string | undefined, readonly string[]])[] = [
    ["--bridge", request.bridge, [old.bridge]],
    ["--interface", request.interfaceName, [old.interface]],
    ["--backend", request.backend, [network.backend]],
    ...(request.subnets ?? []).map((subnet) => ["--subnet", subnet, network.subnets] as const),
    ...(request.addresses ?? []).map((address) => ["--ip", address, own] as const),
    ...(request.snat ?? []).map((address) => ["--snat", address, old.snat] as const),
  ];
  for (const [flag, asked, is] of wanted) {
    if (asked === undefined || is.includes(asked)) continue;
    throw new WayoutError({
      code: "already-attached",
      kind: "usage",
      doing,
      said: `it is attached already, and not with ${flag} ${asked}${is.length === 0 ? "" : ` but with ${is.join(", ")}`}`,
      todo: `To change that: ${command`wayout detach ${old.label}` ?? "detach it"}, then attach it again.`,
      details: { attached: old },
    });
  }
}

// ── The namespace ────────────────────────────────────────────────────────────────────────────────────────────────

/** The namespace that is asked for; undefined when it is to be made. */
function openRequested(request: AttachRequest, doing: string): NetworkNamespace | undefined {
  const label = request.namespace;
  const path = pathOfLabel(label);
  try {
    return NetworkNamespace.open(path, label.startsWith("/") ? undefined : label);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" && request.create === true && !label.startsWith("/")) return undefined;
    if (code === "EPERM" || code === "EACCES") throw error;
    throw code === "ENOENT" ? unknownNamespace(label, path, doing) : notANamespace(path, doing, error);
  }
}

function unknownNamespace(label: string, path: string, doing: string): WayoutError {
  const names = namedNamespaces();
  const there =
    names.length === 0 ? "there is none with a name" : `there are ${names.slice(0, 8).join(", ")}`;
  return new WayoutError({
    code: "unknown-namespace",
    kind: "usage",
    doing,
    said: label.startsWith("/") ? `${path} does not exist` : `no namespace has this name; ${there}`,
    todo: `Make it in the same step: ${command`wayout attach ${label} --create` ?? "--create"}`,
    details: { namespace: label, namespaces: names },
  });
}

function notANamespace(path: string, doing: string, cause: unknown): WayoutError {
  return new WayoutError({
    code: "not-a-namespace",
    kind: "usage",
    doing,
    said: `${path} is no network namespace (${messageOf(cause)})`,
    todo: "A file left over under /run/netns goes away with: ip netns delete NAME",
    cause,
  });
}

/** Refuses a namespace that an attachment would break, or not help. */
function checkPod(
  node: AttachmentNode,
  record: NodeRecord,
  request: AttachRequest,
  pod: NetworkNamespace,
  doing: string,
): void {
  const refuse = (code: string, said: string, todo?: string): never => {
    throw new WayoutError(present({ code, kind: "usage", doing, said, todo }));
  };
  const { cookie } = pod;
  if (cookie === node.namespace.cookie) refuse("own-namespace", "it is the namespace of the node itself");
  const twin = record.attachments.find((attachment) => attachment.cookie === cookie);
  if (twin !== undefined) {
    refuse("attached-already", `the same namespace is attached under the name ${twin.label}`);
  }
  using inside = podRoute(pod);
  const name = request.interfaceName ?? "eth0";
  const taken = inside.link(name);
  if (taken !== undefined) {
    const kind = taken.kind === undefined ? "" : ` (${taken.kind}, ${taken.up ? "up" : "down"})`;
    refuse(
      "interface-taken",
      `the namespace has an interface ${name} already${kind}`,
      "Choose another name: --interface wayout0",
    );
  }
  if (leadsOut(inside, refuse)) {
    refuse(
      "has-way-out",
      "the namespace has a default route already, which would stay in force",
      `Look at it with: ${commandIn(pathOfLabel(request.namespace), command`ip route`) ?? "ip route"}`,
    );
  }
}

/** Whoever lives there may have filled it: then nobody knows what a default route of ours would stand beside. */
function leadsOut(inside: Rtnetlink, refuse: (code: string, said: string, todo: string) => never): boolean {
  try {
    return hasDefaultRoute(inside, 4);
  } catch (error) {
    const why = givenUpBecause(error);
    if (why === undefined) throw error;
    return refuse(
      "pod-not-read",
      `whether the namespace has a default route cannot be told: ${why}`,
      "Take its routes away, or choose another namespace.",
    );
  }
}

function isLoopbackUp(pod: NetworkNamespace): boolean {
  using inside = Rtnetlink.open(pod);
  return inside.link("lo")?.up ?? true;
}

/** The last one takes the directory away that the first one made. */
function madeDirectory(record: NodeRecord): boolean {
  return !existsSync(NETNS_DIRECTORY) || record.attachments.some((other) => other.madeDirectory);
}

function resolverDirectories(record: NodeRecord): Set<string> {
  return new Set(record.attachments.flatMap(({ resolver }) => resolver?.madeDirectories ?? []));
}
