/** From the text of a policy file (YAML or JSON) to a policy, with errors that name the field and its position. */
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { messageOf, WayoutError } from "../error.ts";
import { editDistance } from "../text/edit-distance.ts";
import { PolicyDocument, type FieldPath } from "./document.ts";
import { POLICY, policyOf, type NatPolicy } from "./policy.ts";

/**
 * @param name for messages: the file's path, or "stdin"
 * @throws WayoutError `bad-policy`; `details.problems` lists every PolicyProblem
 */
export async function parsePolicy(text: string, name: string): Promise<NatPolicy> {
  const document = await PolicyDocument.read(text, name, {
    doing: `reading the NAT policy ${name}`,
    todo: "Nothing was changed. examples/nat-policy.yaml shows every key.",
  });
  // An empty file is ip-masq-agent's way to ask for the defaults.
  const result = v.safeParse(POLICY, document.fields());
  if (!result.success) throw document.refusedFor(result.issues, unknownKey);
  const { cidrLimit, nonMasqueradeCIDRs } = result.output;
  if (nonMasqueradeCIDRs.length > cidrLimit) {
    throw document.refusedAt(
      ["nonMasqueradeCIDRs"],
      `holds ${nonMasqueradeCIDRs.length} CIDRs; cidrLimit is ${cidrLimit}: raise it, or list fewer`,
    );
  }
  const { fastPath, backend } = result.output;
  if (fastPath !== "off" && backend !== "ebpf")
    throw document.refusedAt(["fastPath"], `is for the backend ebpf; this policy's is ${backend}`);
  try {
    return policyOf(result.output);
  } catch (error) {
    if (!(error instanceof WayoutError) || error.code !== "bad-nat-intent") throw error;
    throw intentProblem(error, document);
  }
}

/** @param path a file, or `-` for standard input. @throws WayoutError `policy-unreadable`, `bad-policy` */
export async function readPolicy(path: string): Promise<NatPolicy> {
  const { name, text } = await readPolicyText(path);
  return parsePolicy(text, name);
}

/** @throws WayoutError `policy-unreadable` */
export async function readPolicyText(
  path: string,
): Promise<{ readonly name: string; readonly text: string }> {
  try {
    const text = path === "-" ? await Bun.stdin.text() : readFileSync(path, "utf8");
    return { name: path === "-" ? "stdin" : path, text };
  } catch (error) {
    throw new WayoutError({
      code: "policy-unreadable",
      kind: "usage",
      doing: `reading the NAT policy ${path}`,
      said: messageOf(error),
      todo: "Give the path of a YAML or JSON file, or - for standard input.",
      cause: error,
    });
  }
}

const KEYS = Object.keys(POLICY.entries);
const SOURCE_KEYS = ["cidr", "snat", "portRange", "randomFully", "outInterfaces", "drop"];

function unknownKey(path: FieldPath): string {
  const key = String(path.at(-1));
  const known = path.length > 1 ? SOURCE_KEYS : KEYS;
  const nearest = known
    .map((one) => ({ one, distance: editDistance(key.toLowerCase(), one.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0]!;
  const hint =
    nearest.distance <= Math.max(2, key.length / 3)
      ? `did you mean ${nearest.one}?`
      : `known keys are ${known.join(", ")}`;
  return `unknown key; ${hint}`;
}

/** An intent's fields have other names than the file's. */
function intentProblem(error: WayoutError, document: PolicyDocument): WayoutError {
  const at = error.details?.["path"] as string;
  const index = /^sources\[(\d+)\]/.exec(at)?.[1];
  const field = at.endsWith("snat")
    ? "snat"
    : at.endsWith("ports")
      ? "portRange"
      : at.endsWith("drop")
        ? "drop"
        : at.endsWith("fromNode")
          ? "hostTraffic"
          : "cidr";
  const problem = error.said.slice(error.said.indexOf(": ") + 2);
  if (index === undefined) return document.refused([{ path: at, problem }]);
  const own: FieldPath = ["sources", Number(index), field];
  const common: FieldPath = [field];
  const path = document.has(own) ? own : document.has(common) ? common : ["sources", Number(index)];
  return document.refusedAt(path, problem);
}
