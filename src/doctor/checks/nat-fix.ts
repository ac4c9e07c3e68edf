/** The cure that is ours: a policy for the pod's network. */
import { command, namedNamespace } from "../../text/command.ts";
import { restored, vouchedNetwork } from "../vouched.ts";
import { anywhere, type CheckContext } from "../check.ts";
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

export function natFix(context: CheckContext): (Fix | undefined)[] {
  const source = context.path.sent?.source;
  const cidr = source === undefined ? undefined : vouchedNetwork(context, source);
  if (cidr === undefined) {
    const mended = restored(context);
    if (mended.length > 0) return mended;
  }
  if (cidr === undefined) return [anywhere(command`wayout nat apply -f policy.yaml`)];
  const { path } = context.snapshot.node;
  const name = path === undefined ? undefined : (namedNamespace(path) ?? path);
  const policy = JSON.stringify({ sources: [cidr], nonMasqueradeCIDRs: [cidr] });
  const where = name === undefined ? [] : ["--netns", name];
  const line = command`echo ${policy} | wayout nat apply -f - ${where}`;
  return line === undefined ? [] : [{ command: line, place: "node", repair: { kind: "masquerade", cidr } }];
}
