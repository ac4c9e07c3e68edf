/**
 * A lock keeps others away only where they look for it, too. A container that shares the node's network, but has a /run
 * of its own, would change the node's rules beside all others: it must have the node's mounted. Whoever has a network
 * namespace of his own may keep his locks where he likes.
 */
import { command } from "../text/command.ts";
import { rethrowMistake, WayoutError } from "../error.ts";
import { platform } from "#platform";
import { birthOf, fileKey, mayWriteBeside, readRegular, readText, statFile } from "./file.ts";
import { mountOf, type Mount } from "./mounts.ts";
import { FIRST_PID_NAMESPACE, namespaceInode, NetworkNamespace, OWN_NAMESPACE } from "./namespace.ts";
import { ROOTS_RUN_DIRECTORY, runDirectory } from "./run-directory.ts";
import { listenersAtPaths, type UnixListener } from "./unix-listeners.ts";

/** A setting that the kernel shows in the machine's first network namespace, and in no other (net_core_table). */
const SETTING_OF_THE_FIRST = "/proc/sys/net/core/netdev_budget";
/** What kubelet writes at the top of /etc/hosts of a pod with hostNetwork. */
const KUBELETS_WORDS = "# Kubernetes-managed hosts file (host network)";
/** Ages are not compared with the node's clock: it may have been put right since. An init of its own may mount /run itself. */
const SAME_MOMENT_SECONDS = 60;

/**
 * Before anything of a namespace is changed under a lock.
 * @param doing for the error: "attaching blue"
 * @throws WayoutError `run-not-shared` in a container that has the node's network, but not its /run; `run-not-ours`
 *   where another user may write what we would believe
 */
export function requireSharedRun(namespace: NetworkNamespace, doing: string): void {
  const writer = mayWriteBeside(runDirectory());
  if (writer !== undefined) throw notOurs(doing, writer);
  if (!isNodesNetwork(namespace)) return;
  const why = whatHidesIt(namespace);
  if (why === undefined) return;
  throw new WayoutError({
    code: "run-not-shared",
    kind: "machine",
    doing,
    said: `this process has the node's network but not its ${ROOTS_RUN_DIRECTORY} (${why}), so that its locks would not hold for programs outside`,
    todo: `Mount the node's into the container: ${ROOTS_RUN_DIRECTORY}:${ROOTS_RUN_DIRECTORY} (in Kubernetes a hostPath volume of type DirectoryOrCreate).`,
  });
}

/** @param writer who may write there: `user 1000` */
function notOurs(doing: string, writer: string): WayoutError {
  const directory = runDirectory();
  return new WayoutError({
    code: "run-not-ours",
    kind: "machine",
    doing,
    said: `${writer} may write to ${directory}, so that what lies there may be of anybody's making`,
    todo: `Look at what lies in it; then remove it, or take it back: ${command`chown -R 0:0 ${directory}`}; ${command`chmod go-w ${directory}`}`,
  });
}

/**
 * The machine's own namespace, or that of a node which is a container itself, as a pod with hostNetwork sees it. Any other
 * was made for those who are in it.
 */
function isNodesNetwork(namespace: NetworkNamespace): boolean {
  if (namespace.run(() => fileKey(SETTING_OF_THE_FIRST)) !== undefined) return true;
  // A node's own programs have no such variable, and need not look further.
  if (platform.environment()["KUBERNETES_SERVICE_HOST"] === undefined) return false;
  if (namespaceInode(OWN_NAMESPACE) !== namespace.inode) return false;
  try {
    return readRegular("/etc/hosts", KUBELETS_WORDS.length).text === KUBELETS_WORDS;
  } catch (error) {
    rethrowMistake(error);
    return false;
  }
}

/** Why our directory is not the node's; undefined when nothing says so. */
function whatHidesIt(namespace: NetworkNamespace): string | undefined {
  const seesAll = namespaceInode("/proc/self/ns/pid") === FIRST_PID_NAMESPACE;
  const nodes = fileKey("/proc/1/root/run");
  if (seesAll && nodes !== undefined) {
    if (nodes === fileKey("/run")) return undefined;
    const own = fileKey(ROOTS_RUN_DIRECTORY);
    const same = own !== undefined && own === fileKey(`/proc/1/root${ROOTS_RUN_DIRECTORY}`);
    return same ? undefined : "it is not the one that the node's first process sees";
  }
  return whyItIsOurs(readText("/proc/thread-self/mountinfo"), seesAll, {
    birthOf,
    modeOf: (path) => statFile(path).mode,
    listeners: () => listenersAtPaths(namespace),
  });
}

/** What the mounts themselves do not say. */
export interface RunWitness {
  /** Seconds since 1970; undefined where the file system does not know. */
  readonly birthOf: (path: string) => number | undefined;
  readonly modeOf: (path: string) => number;
  /** Of the node's network. */
  readonly listeners: () => readonly UnixListener[];
}

/**
 * Where the node's processes cannot be seen the mounts tell, and the sockets that the node's programs listen at: a container
 * runtime has one in the node's /run, and the kernel says which file system that is.
 * @param seesAll whether we have the machine's first pid namespace
 */
export function whyItIsOurs(mountinfo: string, seesAll: boolean, witness: RunWitness): string | undefined {
  const mount = mountOf(ROOTS_RUN_DIRECTORY, mountinfo);
  if (mount === undefined) return undefined;
  const { point, root, type } = mount;
  const below = ROOTS_RUN_DIRECTORY.slice(point === "/" ? 0 : point.length);
  const inside = `${root === "/" ? "" : root}${below}`;
  if (inside.includes("//deleted"))
    return "the directory that was mounted there is removed; start the container again";
  if (point === "/") return isImages(mount, seesAll) ? "it lies in the container's own root" : undefined;
  if (inside === "") return `a ${type} of its own is mounted there`;
  if (inside !== "/wayout" && inside !== ROOTS_RUN_DIRECTORY)
    return `${inside} of a ${type} is mounted there`;
  // A volume of a pod that lies in memory (kubelet gives it 0777), a tmpfs of Docker's (1777).
  if ((witness.modeOf(point) & OTHERS_MAY_WRITE) !== 0)
    return `every user may write to the ${type} at ${point}`;
  const nodes = witness.listeners().filter(({ path }) => BELOW_RUN.test(path));
  if (nodes.some(({ device }) => device === mount.device)) return undefined;
  if (nodes.length > 0)
    return `the ${type} at ${point} is not the one in which ${nodes[0]!.path} lies, where a program of the node listens`;
  return isMadeWith(mount, mountOf("/dev", mountinfo), witness.birthOf)
    ? `the tmpfs at ${point} was made for this container`
    : undefined;
}

/** Whether what is mounted at "/" is a container's image, for all that its mount says. */
function isImages({ type, root }: Mount, seesAll: boolean): boolean {
  return type === "overlay" || (!seesAll && root !== "/");
}

const OTHERS_MAY_WRITE = 0o002;
/** Not our own: an agent's lies where its container has it. */
const BELOW_RUN = /^(?:\/var)?\/run\/(?!wayout\/)/;

/** A runtime gives each container a fresh tmpfs as /dev, in the same moment as any other. A machine's /dev is a devtmpfs. */
function isMadeWith(run: Mount, dev: Mount | undefined, birth: RunWitness["birthOf"]): boolean {
  const isWholeTmpfs = ({ type, root }: Mount): boolean => type === "tmpfs" && root === "/";
  if (dev?.point !== "/dev" || !isWholeTmpfs(dev) || !isWholeTmpfs(run)) return false;
  const [born, devs] = [birth(run.point), birth(dev.point)];
  return born !== undefined && devs !== undefined && Math.abs(born - devs) < SAME_MOMENT_SECONDS;
}

/**
 * Before a file is put where the node's runtimes look for it: in a container's own root none would ever see it.
 * @param directory need not exist yet
 * @param doing for the error: "installing the CNI plugin"
 * @throws WayoutError `directory-not-shared` in a container that has the node's network, but not that directory of its
 */
export function requireNodesDirectory(directory: string, doing: string): void {
  using own = NetworkNamespace.current();
  const mount = mountOf(directory);
  if (mount === undefined || !isNodesNetwork(own) || !isContainersAlone(mount)) return;
  throw new WayoutError({
    code: "directory-not-shared",
    kind: "machine",
    doing,
    said: `${directory} is this container's own, and no runtime of the node looks there`,
    todo: "Mount the node's directory into the container (in Kubernetes a hostPath volume of type DirectoryOrCreate), and name it by --bin-dir and --conf-dir when it is mounted elsewhere.",
  });
}

function isContainersAlone(mount: Mount): boolean {
  if (mount.root.includes(VOLUME_OF_A_POD)) return true;
  if (mount.point !== "/") return false;
  const seesAll = namespaceInode("/proc/self/ns/pid") === FIRST_PID_NAMESPACE;
  const nodes = seesAll ? fileKey("/proc/1/root/") : undefined;
  return nodes === undefined ? isImages(mount, seesAll) : nodes !== fileKey("/");
}

/** Where kubelet keeps the volumes that live and die with their pod. */
const VOLUME_OF_A_POD = "/kubernetes.io~empty-dir/";
