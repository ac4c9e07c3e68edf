/** The cure that is ours: a policy for the pod's network. */
import { hostCidr } from "../../address/ip.ts";
import { command, namedNamespace } from "../../text/command.ts";
import { present } from "../../present.ts";
import { restored, vouchedNetwork } from "../whose-word.ts";
import type { CheckContext } from "../check.ts";
import type { NatBackendName } from "../../nat/backends/backends.ts";
import type { NatIntent } from "../../nat/intent.ts";
import type { Fix } from "../finding.ts";

/** Who wanted the translation writes it once more, and with it whatever of it is missing. */
export function restoringFix(
  context: CheckContext,
  backend: NatBackendName,
  intent: NatIntent,
): Fix | undefined {
  const { name } = context.pod;
  const line = intent.owner.startsWith("attach/")
    ? command`wayout attach ${name}`
    : command`wayout doctor --fix --yes ${name}`;
  return context.fix("node", line, { kind: "restore-nat", backend, intent });
}

/** Where nobody but the pod says that the source is its own, a policy for it is a person's to decide (../whose-word.ts). */
export function natFix(context: CheckContext): (Fix | undefined)[] {
  const source = context.path.sent?.source;
  if (source === undefined) return [];
  const cidr = vouchedNetwork(context, source);
  if (cidr === undefined) {
    const mended = restored(context);
    if (mended.length > 0) return mended;
  }
  const { path } = context.snapshot.node;
  const name = path === undefined ? undefined : (namedNamespace(path) ?? path);
  const wanted = cidr ?? hostCidr(source);
  const policy = JSON.stringify({ sources: [wanted], nonMasqueradeCIDRs: [wanted] });
  const where = name === undefined ? [] : ["--netns", name];
  const line = command`echo ${policy} | wayout nat apply -f - ${where}`;
  if (line === undefined) return [];
  const repair = cidr === undefined ? undefined : ({ kind: "masquerade", cidr } as const);
  return [present({ command: line, place: "node" as const, repair })];
}
