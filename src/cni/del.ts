/** DEL: takes an attachment away as far as it is there. Repeatable; needs neither the namespace nor a whole configuration. */
import { rethrowMistake } from "../error.ts";
import { DEFAULT_BACKEND, type NatBackendName } from "../nat/backends/backends.ts";
import { removeHostEnd, removePodEnd, type UnknownEnd } from "../network/network.ts";
import type { AddressManagement } from "./address-management.ts";
import { answering } from "./answer.ts";
import { networkBackend, type NetworkHeader } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { hostVethName, isLabelOf, labelOf, readLabel } from "../naming/names.ts";
import { leaveNetwork } from "./network-state.ts";
import { openPodIfThere } from "./pod-namespace.ts";
import { readResult } from "./result.ts";
import { endUse, notedAddresses } from "./used-addresses.ts";

export const answer = answering(del);

/**
 * First the link, then what speaks of it: while an address is still in use it must not be given to another pod.
 * @throws the first failure, after everything else was tried
 */
async function del(context: CniContext): Promise<void> {
  const { call, header, namespace } = context;
  const ipam = context.addresses(true);
  using pod = openPodIfThere(call.netns, namespace);
  const port = hostVethName(header.network, call.container, call.interfaceName);
  const failures: unknown[] = [];
  const attempt = async (step: () => unknown): Promise<void> => {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  };
  let isOurs = false;
  await attempt(() => (isOurs = removeHostEnd(context.node, context.linkNames)));
  if (!isOurs) {
    await attempt(() =>
      removePodEnd(context.node, pod, context.linkNames, (end) => isMeant(end, context, ipam)),
    );
    await attempt(() => removeOthersRules(context));
  }
  // Also of a pod that another plugin attached: who gets its address next must not inherit its connections.
  await attempt(() => endUse(header.network, port, addressesOf(context, ipam, port), namespace));
  await attempt(() => ipam?.del());
  if (header.fields.raw("macspoofchk") === true) {
    await attempt(async () => {
      const { MacSpoofing } = await import("./mac-spoofing.ts");
      using spoofing = new MacSpoofing(namespace);
      spoofing.release([port]);
    });
  }
  await attempt(() => leaveNetwork(context, backendOf(context), ipam));
  if (failures.length > 0) throw failures[0];
}

/** What its addresses are: from host-local's files, or from what its ADD noted. */
function addressesOf(
  { header, namespace }: CniContext,
  ipam: AddressManagement | undefined,
  port: string,
): readonly string[] {
  if (ipam === undefined) return [];
  return ipam.wantsLink ? notedAddresses(header.network, namespace, port) : ipam.reserved();
}

/** What the plugin that we replace made for this very pod, if it was that one. */
async function removeOthersRules({ header, owner, namespace }: CniContext): Promise<void> {
  if (header.fields.raw("ipMasq") !== true && header.fields.raw("macspoofchk") !== true) return;
  const { ReferenceRules } = await import("./reference-rules.ts");
  using rules = new ReferenceRules(namespace);
  rules.remove(header.network, owner);
}

/**
 * Whether an interface that another plugin made is the one that is to go: by its label, by what its ADD reported, or by
 * an address that is reserved for it. Without any of these it stays: it goes with its namespace, or is another pod's.
 */
function isMeant(end: UnknownEnd, context: CniContext, ipam: AddressManagement | undefined): boolean {
  const { header, call, owner } = context;
  if (end.alias === labelOf(header.network, owner)) return true;
  const label = end.alias === undefined ? undefined : readLabel(end.alias);
  if (label !== undefined) {
    const { container, interfaceName } = label.owner;
    const isSame = container === owner.container && interfaceName === owner.interfaceName;
    return isSame && isLabelOf(header.network, end.alias);
  }
  if (end.mac !== undefined && end.mac === reportedMac(header, call.interfaceName)) return true;
  const reserved = ipam?.reserved() ?? [];
  return reserved.length > 0 && end.addresses().some((address) => reserved.includes(address));
}

/** The MAC of the pod's interface as ADD reported it; undefined when the runtime does not hand the result on. */
function reportedMac({ fields, version }: NetworkHeader, interfaceName: string): string | undefined {
  try {
    const { interfaces } = readResult(fields.raw("prevResult"), "prevResult", version);
    return interfaces
      .find(({ name, sandbox }) => name === interfaceName && sandbox !== undefined)
      ?.mac?.toLowerCase();
  } catch (error) {
    rethrowMistake(error);
    return undefined;
  }
}

export function backendOf({ header }: CniContext): NatBackendName {
  return networkBackend(header.fields.raw("ipMasqBackend")) ?? DEFAULT_BACKEND;
}
