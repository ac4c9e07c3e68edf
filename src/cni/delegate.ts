/** IPAM plugins of other people, executed as the specification says ("Plugin Delegation"). */
import { rethrowMistake, WayoutError } from "../error.ts";
import { Fields } from "../ipam/fields.ts";
import { isExecutable } from "../kernel/file.ts";
import { decodeUtf8, encodeUtf8 } from "../platform/bytes.ts";
import { platform } from "#platform";
import { CNI_ERROR_CODES, DelegateError } from "./failure.ts";
import type { CniCommand } from "./call.ts";

/** Longer than any runtime waits for us (the kubelet gives a sandbox 2 to 4 minutes). */
const TIMEOUT_MS = 240_000;

/**
 * Runs the plugin `type` with our environment and our configuration; what it prints on standard output.
 * @throws DelegateError with the plugin's own code; WayoutError when it cannot be found
 */
export function runDelegate(
  type: string,
  command: CniCommand,
  configuration: string,
  path: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): string {
  const program = findPlugin(type, path);
  const child = platform.run([program], {
    input: encodeUtf8(configuration),
    stderr: "inherit",
    environment: { ...environment, CNI_COMMAND: command },
    timeoutMs: TIMEOUT_MS,
  });
  const output = decodeUtf8(child.stdout);
  if (child.exitCode === 0) return output;
  throw delegateError(type, output, child.exitCode, child.signal);
}

function delegateError(
  type: string,
  output: string,
  exitCode: number | null,
  signal: string | undefined,
): DelegateError {
  try {
    const fields = Fields.of(JSON.parse(output));
    const code = fields.integer("code", 0, 0xffff_ffff);
    const said = fields.string("msg");
    if (code !== undefined && said !== undefined) {
      return new DelegateError(type, code, said, fields.string("details"));
    }
  } catch (error) {
    rethrowMistake(error);
    // It died without the JSON that the specification asks for.
  }
  const how = exitCode === null ? `it was ended by signal ${signal ?? "?"}` : `it ended with ${exitCode}`;
  const wrote = output.trim() === "" ? "" : ` and wrote ${JSON.stringify(output.trim().slice(0, 500))}`;
  return new DelegateError(type, CNI_ERROR_CODES["delegate-failed"], `${how}${wrote}`, undefined);
}

/** @throws WayoutError `delegate-failed` */
function findPlugin(type: string, path: readonly string[]): string {
  const doing = `looking for the IPAM plugin ${type}`;
  if (!/^[^/\s]+$/.test(type) || type === "." || type === "..") {
    throw new WayoutError({
      code: "bad-configuration",
      kind: "usage",
      doing,
      said: `ipam.type "${type}" is no name of a program`,
    });
  }
  const directories = path.filter((directory) => directory !== "");
  for (const directory of directories) {
    const candidate = `${directory}/${type}`;
    if (isExecutable(candidate)) return candidate;
  }
  throw new WayoutError({
    code: "delegate-failed",
    kind: "machine",
    doing,
    said: directories.length === 0 ? "CNI_PATH is not set" : `it is not in ${directories.join(":")}`,
    todo: "Install it there, or set ipam.type to host-local, which is built in.",
  });
}
