/** The cure that is ours: a policy for the pod's network. */
import { command, namedNamespace } from "../../text/command.ts";
import { restored, vouchedNetwork } from "../vouched.ts";
import { anywhere, type CheckContext } from "../check.ts";
import type { Fix } from "../finding.ts";

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
