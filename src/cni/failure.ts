/** Errors as the protocol has them: a number for programs, a sentence for people. */
import { platform } from "#platform";
import { codeOf, isMistake, isOutOfMemory, limitTodo, messageOf, WayoutError } from "../error.ts";
import { FieldError } from "../ipam/fields.ts";
import type { Problem } from "../ways-out/problem.ts";
import { NEWEST } from "./version.ts";
import { present } from "../present.ts";

/** The numbers of the specification, then ours, which begin at 100. Keys are codes of WayoutError. */
export const CNI_ERROR_CODES = {
  "cni-version": 1,
  "unsupported-field": 2,
  "unknown-container": 3,
  "cni-environment": 4,
  "cni-input": 5,
  "cni-output": 5,
  "address-store": 5,
  "no-lock": 5,
  "resolv-conf": 5,
  "not-json": 6,
  "bad-configuration": 7,
  "bad-nat-intent": 7,
  "bad-address": 7,
  "bad-namespace": 8,
  "try-again": 11,
  busy: 11,
  "not-available": 50,
  "run-not-shared": 50,
  "run-not-ours": 50,
  "limited-connectivity": 51,
  failed: 100,
  "no-address-left": 101,
  "already-attached": 102,
  "address-taken": 103,
  "address-in-use": 103,
  "interface-exists": 104,
  "interface-missing": 104,
  "not-a-bridge": 105,
  "bridge-has-other-subnet": 105,
  "bridge-conflict": 105,
  "bridge-full": 105,
  "kernel-lacks-feature": 106,
  "no-nftables": 106,
  "no-iptables": 106,
  "no-ebpf": 106,
  "sysctl-missing": 106,
  "no-privilege": 107,
  "sysctl-read-only": 107,
  "delegate-failed": 108,
  "check-failed": 110,
  "garbage-left": 111,
  internal: 999,
} as const satisfies Readonly<Record<string, number>>;

/** What goes to stdout when a call fails. */
export interface CniFailure {
  readonly cniVersion: string;
  readonly code: number;
  readonly msg: string;
  readonly details?: string;
}

/** A delegate's own error, handed on with its own number. */
export class DelegateError extends WayoutError {
  constructor(
    program: string,
    readonly cniCode: number,
    said: string,
    readonly cniDetails: string | undefined,
  ) {
    super({ code: "delegate-failed", kind: "broken", doing: `asking the IPAM plugin ${program}`, said });
  }
}

/** Anything thrown, in the protocol's shape. */
export function cniFailure(error: unknown, version: string = NEWEST): CniFailure {
  if (error instanceof DelegateError) {
    const details = error.cniDetails;
    return present({
      cniVersion: version,
      code: error.cniCode,
      msg: error.message,
      details,
    });
  }
  if (error instanceof FieldError) {
    return {
      cniVersion: version,
      code: CNI_ERROR_CODES["bad-configuration"],
      msg: `the network configuration: ${error.message}`,
    };
  }
  if (error instanceof WayoutError) {
    const details = detailsOf(error);
    return present({
      cniVersion: version,
      code: numberOf(error),
      msg: error.message,
      details,
    });
  }
  return { cniVersion: version, ...unexpected(error) };
}

/** A way out that does not stand. */
export function checkFailed(doing: string, problems: readonly Problem[], todo: string): WayoutError {
  return new WayoutError({
    code: "check-failed",
    kind: "broken",
    doing,
    said: problems.map(({ text }) => text).join("; "),
    todo,
    details: { problems },
  });
}

/** What to do; of a way out that does not stand first the codes of what is wrong with it: `problems=CODE,CODE; `. */
function detailsOf({ todo: text, details }: WayoutError): string | undefined {
  const problems = details?.["problems"] as readonly { readonly code: string }[] | undefined;
  if (problems === undefined) return text;
  const codes = `problems=${[...new Set(problems.map(({ code }) => code))].join(",")}`;
  return text === undefined ? codes : `${codes}; ${text}`;
}

function numberOf(error: WayoutError): number {
  if (Object.hasOwn(CNI_ERROR_CODES, error.code)) {
    return CNI_ERROR_CODES[error.code as keyof typeof CNI_ERROR_CODES];
  }
  return error.kind === "usage" ? CNI_ERROR_CODES["bad-configuration"] : CNI_ERROR_CODES.failed;
}

/** Where a mistake of ours was made: the first thing to know in order to mend it. */
function stackOf(error: unknown): string | undefined {
  const { stack } = error as Error;
  if (typeof stack !== "string" || stack === "") return undefined;
  const frames = platform.placed(stack).split("\n");
  const places = frames.map((frame) => frame.trim()).filter((frame) => frame.startsWith("at "));
  return places.length === 0 ? undefined : places.slice(0, MOST_FRAMES).join(", ");
}

const MOST_FRAMES = 8;

/** The kernel's refusals and Node's errors have a code; what has none is a mistake of ours. */
function unexpected(error: unknown): Omit<CniFailure, "cniVersion"> {
  const msg = messageOf(error);
  const code = isOutOfMemory(error) ? "ENOMEM" : codeOf(error);
  if (code === "EPERM" || code === "EACCES") return { code: CNI_ERROR_CODES["no-privilege"], msg };
  const details = limitTodo(code) ?? (isMistake(error) ? stackOf(error) : undefined);
  return present({
    code: code === undefined ? CNI_ERROR_CODES.internal : CNI_ERROR_CODES.failed,
    msg,
    details,
  });
}
