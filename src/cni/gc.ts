/** GC: everything of a network that no valid attachment holds is taken away, and failures are told together. */
import { messageOf, WayoutError } from "../error.ts";
import { requireSharedRun } from "../kernel/shared-run.ts";
import type { AddressOwner } from "../ipam/assignment.ts";
import { asList, Fields } from "../ipam/fields.ts";
import { answering } from "./answer.ts";
import type { CniContext } from "./context.ts";
import { backendOf } from "./del.ts";
import { MacSpoofing } from "./mac-spoofing.ts";
import { hasNat } from "./network-nat.ts";
import { ReferenceRules } from "./reference-rules.ts";
import { leaveNetwork, linksOf } from "./network-state.ts";
import { hostVethName } from "../naming/names.ts";

export const answer = answering(async (context) => {
  await gc(context, readValidAttachments(context.header.fields));
});

/** What a collection took away, or would take away. */
export interface Collected {
  /** Host ends of links, with what their alias says. */
  readonly links: readonly { readonly name: string; readonly alias: string }[];
  readonly addresses: readonly { readonly address: string; readonly owner: string }[];
  /** Ports whose senders were checked and that are gone. */
  readonly checkedPorts: readonly string[];
  /** Pods for which the plugin that we replace left rules. */
  readonly othersRules: readonly string[];
  /** Whether the network's NAT rules go: nobody is left whom they could serve. */
  readonly natRules: boolean;
}

/** The attachments that a runtime says are valid. @throws FieldError: a list that is missing is not an empty one */
function readValidAttachments(fields: Fields): AddressOwner[] {
  const key =
    fields.raw("cni.dev/valid-attachments") === undefined
      ? "cni.dev/attachments"
      : "cni.dev/valid-attachments";
  const value = fields.raw(key);
  if (value === undefined) fields.refuse("cni.dev/valid-attachments", "is missing");
  return asList(value, key, (item, path) => {
    const attachment = Fields.of(item, path);
    const container = attachment.string("containerID") ?? attachment.refuse("containerID", "is missing");
    const interfaceName = attachment.string("ifname") ?? attachment.refuse("ifname", "is missing");
    return { container, interfaceName };
  });
}

/**
 * @param dryRun only look
 * @param keptLinks host ends that stay whatever their label says
 * @throws WayoutError `run-not-shared`, `run-not-ours`, or `garbage-left` with every failure, after everything was tried
 */
export async function gc(
  context: CniContext,
  valid: readonly AddressOwner[],
  dryRun = false,
  keptLinks: readonly string[] = [],
): Promise<Collected> {
  const { header, node, namespace } = context;
  if (!dryRun) requireSharedRun(namespace, `collecting the garbage of network ${header.network}`);
  const failures: string[] = [];
  const attempt = async <T>(step: () => T | Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await step();
    } catch (error) {
      failures.push(messageOf(error));
      return otherwise;
    }
  };
  const names = new Set([
    ...valid.map(({ container, interfaceName }) => hostVethName(header.network, container, interfaceName)),
    ...keptLinks,
  ]);
  const found = await attempt(() => linksOf(header.network, node), []);
  const links = found.filter(({ name }) => !names.has(name));
  if (!dryRun) for (const { index } of links) await attempt(() => node.deleteLink(index), false);
  const ipam = await attempt(() => context.addresses(true), undefined);
  const garbage = await attempt(() => ipam?.collect(validity(valid), dryRun) ?? [], []);
  const checkedPorts = await attempt(
    () =>
      collectPorts(
        context,
        links.map(({ name }) => name),
        dryRun,
      ),
    [],
  );
  const othersRules = await attempt(() => collectOthersRules(context, valid, dryRun), []);
  const natRules = await attempt(async () => {
    if (!dryRun) return await leaveNetwork(context, backendOf(context), ipam);
    const stay = (ipam?.held() ?? 0) - garbage.flatMap(({ addresses }) => addresses).length;
    if (ipam === undefined || stay > 0 || links.length < found.length) return false;
    return await hasNat(header.network, context.namespace);
  }, false);
  if (failures.length > 0) throw garbageLeft(header.network, failures);
  return {
    links: links.map(({ name, alias }) => ({ name, alias: alias ?? "" })),
    addresses: garbage.flatMap(({ owner, addresses }) =>
      addresses.map((address) => ({ address, owner: owner === undefined ? "" : ownerKey(owner) })),
    ),
    checkedPorts,
    othersRules,
    natRules,
  };
}

/** Of pods that no valid attachment names; those of iptables name no interface, so any of the pod's keeps them. */
function collectOthersRules(
  { header, namespace }: CniContext,
  valid: readonly AddressOwner[],
  dryRun: boolean,
): string[] {
  const isValid = validity(valid);
  using rules = new ReferenceRules(namespace);
  const stale = rules.owners(header.network).filter((owner) => !isValid(owner));
  if (!dryRun) for (const owner of stale) rules.remove(header.network, owner);
  return stale.map((owner) => ownerKey(owner).trimEnd());
}

function validity(valid: readonly AddressOwner[]): (owner: AddressOwner) => boolean {
  const keys = new Set(valid.map(ownerKey));
  // An old file names the container only: any valid attachment of that container keeps it.
  const containers = new Set(valid.map(({ container }) => container));
  return (owner) =>
    keys.has(ownerKey(owner)) || (owner.interfaceName === "" && containers.has(owner.container));
}

/** The checks of ports that just went, or that went without us (a namespace that ended takes its link along). */
function collectPorts(
  { header, node, namespace }: CniContext,
  gone: readonly string[],
  dryRun: boolean,
): string[] {
  if (header.fields.raw("macspoofchk") !== true) return [];
  using spoofing = new MacSpoofing(namespace);
  const stale = spoofing.ports().filter((port) => gone.includes(port) || node.linkState(port) === undefined);
  if (!dryRun && stale.length > 0) spoofing.release(stale);
  return stale;
}

function ownerKey({ container, interfaceName }: AddressOwner): string {
  return `${container} ${interfaceName}`;
}

function garbageLeft(network: string, failures: readonly string[]): WayoutError {
  return new WayoutError({
    code: "garbage-left",
    kind: "broken",
    doing: `collecting the garbage of network ${network}`,
    said: failures.join("; "),
  });
}
