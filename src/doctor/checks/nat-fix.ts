/** The cure that is ours: a policy for the pod's network. */
import { command, namedNamespace } from "../../text/command.ts";
import { cidrText, parseCidr } from "../../address/cidr.ts";
import { anywhere, type CheckContext } from "../check.ts";
import type { Fix } from "../finding.ts";

export function natFix(context: CheckContext): (Fix | undefined)[] {
  const cidr = podNetwork(context);
  if (cidr === undefined) return [anywhere(command`wayout nat apply -f policy.yaml`)];
  const { path } = context.snapshot.node;
  const name = path === undefined ? undefined : (namedNamespace(path) ?? path);
  const policy = JSON.stringify({ sources: [cidr], nonMasqueradeCIDRs: [cidr] });
  const where = name === undefined ? [] : ["--netns", name];
  const line = command`echo ${policy} | wayout nat apply -f - ${where}`;
  return line === undefined ? [] : [{ command: line, repair: { kind: "masquerade", cidr } }];
}

/** The network the pod's address lies in, without host bits. */
function podNetwork({ path, inside }: CheckContext): string | undefined {
  const mine = inside?.view.state.addresses.find((one) => one.address === path.sent?.source);
  if (mine === undefined) return undefined;
  return cidrText(parseCidr(`${mine.address}/${mine.prefixLength}`, "keep"));
}
