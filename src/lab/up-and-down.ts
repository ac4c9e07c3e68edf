/** A lab that stays: made by `lab up`, played in, taken down by `lab down`. Half-made ones are mended or removed. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { WayoutError } from "../error.ts";
import { namedNamespaces, namespaceFileExists, removeNamespaceDirectory } from "../kernel/named-namespace.ts";
import { NETNS_DIRECTORY } from "../kernel/namespace.ts";
import { removeIfEmpty } from "../kernel/file.ts";
import { endProcess, isRunning } from "../kernel/process.ts";
import { RESOLV_CONF } from "./exec.ts";
import { LAB_NAMESPACES, PLAN } from "./plan.ts";
import { LAB_PROCESSES } from "./processes.ts";
import { worldFailure } from "./realm.ts";
import { forgetState, readState, withLabLock, writeState, type LabState } from "./state.ts";
import { forwardAndMasquerade } from "./forwarding-and-nat.ts";
import { buildWorld, removeNamespaces, startInternet, World } from "./world.ts";

/** What `lab status` tells. */
export interface LabStatus {
  /** `half-made`: a run was killed, or a part was taken away. */
  readonly state: "down" | "up" | "half-made";
  readonly namespaces: readonly { readonly name: string; readonly present: boolean }[];
  readonly servers: "running" | "gone";
  readonly faults: readonly string[];
}

export function labStatus(): LabStatus {
  const state = readState();
  const present = namedNamespaces();
  const namespaces = LAB_NAMESPACES.map((name) => ({ name, present: present.includes(name) }));
  const servers =
    state?.servers !== undefined && isRunning(state.servers, LAB_PROCESSES.internet) ? "running" : "gone";
  const whole = state?.phase === "up" && servers === "running" && namespaces.every((each) => each.present);
  return {
    state: state === undefined ? "down" : whole ? "up" : "half-made",
    namespaces,
    servers,
    faults: state?.faults ?? [],
  };
}

/** What `lab up` did. */
export interface Raised {
  readonly change: "built" | "was up" | "repaired";
}

/**
 * Builds the world and leaves it standing.
 * @param wayOut whether the node forwards and masquerades from the start; without it, blue is as in chapter 2
 * @throws WayoutError name-taken when a namespace of that name belongs to another program
 */
export function labUp(wayOut: boolean): Promise<Raised> {
  return withLabLock("building the lab", () => {
    const status = labStatus();
    if (status.state === "up") return { change: "was up" };
    const repair = status.state === "half-made";
    if (repair) takeDown(readState()!);
    refuseForeignNames();
    build(wayOut);
    return { change: repair ? "repaired" : "built" };
  });
}

function refuseForeignNames(): void {
  const taken = LAB_NAMESPACES.filter((name) => namespaceFileExists(name));
  if (taken.length === 0) return;
  throw new WayoutError({
    code: "name-taken",
    kind: "broken",
    doing: "building the lab",
    said: `${taken.join(", ")} exists already under ${NETNS_DIRECTORY}, and this lab did not make it`,
    todo: `If it is not needed: ${taken.map((name) => `ip netns delete ${name}`).join("; ")}. 'wayout lab' without 'up' needs no names.`,
  });
}

/** Every step is written down before it is done, so that a killed run can be cleaned up after. */
function build(wayOut: boolean): void {
  let state: LabState = {
    version: 1,
    phase: "building",
    namespaces: [...LAB_NAMESPACES],
    made: resolverFiles().concat(existsSync(NETNS_DIRECTORY) ? [] : [NETNS_DIRECTORY]),
    faults: [],
  };
  writeState(state);
  try {
    buildWorld();
    writeResolverFiles(state.made);
    startInternet((servers) => {
      state = { ...state, servers };
      writeState(state);
    });
    if (wayOut) {
      using world = new World();
      forwardAndMasquerade(world.node);
    }
    writeState({ ...state, phase: "up" });
  } catch (error) {
    takeDown(state);
    throw worldFailure("building the lab", error);
  }
}

/** Files for `ip netns exec`, which gives a namespace /etc/netns/NAME/resolv.conf as its own; those that are missing. */
function resolverFiles(): string[] {
  const wanted = [
    "/etc/netns",
    ...pods().flatMap((name) => [`/etc/netns/${name}`, `/etc/netns/${name}/resolv.conf`]),
  ];
  return wanted.filter((path) => !existsSync(path));
}

function pods(): string[] {
  return [PLAN.pods.blue.namespace, PLAN.pods.green.namespace];
}

function writeResolverFiles(made: readonly string[]): void {
  for (const name of pods()) {
    const path = `/etc/netns/${name}/resolv.conf`;
    if (!made.includes(path)) continue;
    try {
      mkdirSync(`/etc/netns/${name}`, { recursive: true });
      writeFileSync(path, RESOLV_CONF);
    } catch {
      // A convenience for `ip netns exec`; an ordinary user cannot have it, and `lab exec` does not need it.
    }
  }
}

/** Takes the lab away, whatever of it is there. False when there was none. */
export function labDown(): Promise<boolean> {
  return withLabLock("taking the lab down", () => {
    const state = readState();
    if (state === undefined) return false;
    takeDown(state);
    return true;
  });
}

function takeDown(state: LabState): void {
  if (state.phase === "up") noteHalfMade(state);
  if (state.servers !== undefined) endProcess(state.servers, LAB_PROCESSES.internet);
  removeNamespaces(state.namespaces);
  for (const path of state.made.toReversed()) {
    if (path === NETNS_DIRECTORY) removeNamespaceDirectory();
    else if (path.endsWith("/resolv.conf")) rmSync(path, { force: true });
    else removeIfEmpty(path);
  }
  forgetState();
}

/** A run that dies now has left a lab that is none, however long a process that was killed may still be seen. */
function noteHalfMade(state: LabState): void {
  try {
    writeState({ ...state, phase: "building" });
  } catch {
    // No room under /run must not keep a lab up.
  }
}

/** The world of a lab that is up. @throws WayoutError lab-down, lab-half-made */
export function requireLab(doing: string): void {
  const { state } = labStatus();
  if (state === "up") return;
  throw new WayoutError({
    code: state === "down" ? "lab-down" : "lab-half-made",
    kind: "broken",
    doing,
    said:
      state === "down"
        ? "the lab is not up"
        : "the lab is incomplete: a run was killed, or a part was removed",
    todo: state === "down" ? "Build it: wayout lab up" : "Rebuild it: wayout lab up",
  });
}
