/**
 * Keeps the CNI configuration of this node as its podCIDRs say. It is what makes a node ready for pods, so it is written
 * last: when bridge, forwarding, NAT and routes stand and a packet was seen to pass. It stays when the agent ends.
 */
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseCidr } from "../address/cidr.ts";
import type { ReconcileStep, Repair } from "../agent/reconcile/step.ts";
import { readNetworks } from "../cni/configured-networks.ts";
import { conflistOf } from "../cni/conflist.ts";
import {
  CONFLIST_NAME,
  conflistText,
  hasProgram,
  programPath,
  putConflist,
  putProgram,
  shadowedBy,
} from "../cni/placement.ts";
import { codeOf, WayoutError } from "../error.ts";
import { ownSingleFile } from "../self.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { runDirectory } from "../kernel/run-directory.ts";
import type { ClusterView } from "./cluster.ts";
import { gatewaysOf, type PodNetwork } from "./pod-network.ts";
import { present } from "../present.ts";

/** There while the network of a node of a cluster stands; gone when the node starts anew, for /run is. */
export function networkMadePath(node: NetworkNamespace): string {
  return `${runDirectory()}/cluster/${node.cookie}.made`;
}

export interface CniDirectories {
  readonly binDirectory: string;
  readonly configurationDirectory: string;
}

/** One plugin's configuration, with what a runtime adds to it. */
export type PluginConfiguration = Readonly<Record<string, unknown>>;

export class CniStep implements ReconcileStep {
  readonly name = "cni-configuration";
  #composed: { readonly key: string; readonly conflist: object } | undefined;
  #written: string | undefined;
  #hasProgram = false;

  /**
   * @param madePath the file that says that the network stands: no pod comes without it
   * @param obstacle why it may not be written now; undefined: it may
   * @param wrote hears that it was written
   */
  constructor(
    private readonly directories: CniDirectories,
    private readonly network: () => PodNetwork,
    private readonly view: () => ClusterView | undefined,
    private readonly madePath: string,
    private readonly obstacle: () => string | undefined,
    private readonly wrote: (path: string) => void,
  ) {}

  /** The gateways of the network as it is configured now; empty where nothing of ours is. */
  earlierGateways(): string[] {
    const { configurationDirectory } = this.directories;
    const path = join(configurationDirectory, CONFLIST_NAME);
    const ours = readNetworks(configurationDirectory).find(({ file }) => file === path);
    if (ours?.plugin["bridge"] !== this.network().bridge) return [];
    const subnets = JSON.stringify(ours.plugin["ipam"] ?? {}).matchAll(/"subnet":"([^"]+)"/g);
    return [...subnets].flatMap(([, text]) => {
      try {
        return gatewaysOf([text!]);
      } catch {
        // It was written by hand; what is no prefix was no gateway.
        return [];
      }
    });
  }

  /** What a runtime would hand to our plugin; undefined while the node has no podCIDR. */
  plugin(): PluginConfiguration | undefined {
    const conflist = this.#conflist() as
      | {
          readonly cniVersion: string;
          readonly name: string;
          readonly plugins: readonly PluginConfiguration[];
        }
      | undefined;
    if (conflist === undefined) return undefined;
    // It is asked for by who finds out whether the network stands.
    const { waitsFor: _, ...plugin } = conflist.plugins[0] ?? {};
    return { ...plugin, name: conflist.name, cniVersion: conflist.cniVersion };
  }

  run(): Repair[] {
    const conflist = this.#conflist();
    if (conflist === undefined) return [];
    const path = join(this.directories.configurationDirectory, CONFLIST_NAME);
    const found = textOf(path);
    const wanted = conflistText(conflist);
    this.#putProgram();
    this.#sayMade();
    if (found === wanted) {
      this.#written = wanted;
      this.#checkShadows();
      return [];
    }
    if (this.obstacle() !== undefined) return [];
    const isRepair = this.#written === wanted;
    putConflist(this.directories.configurationDirectory, conflist);
    this.#written = wanted;
    this.wrote(path);
    this.#checkShadows();
    if (!isRepair) return [];
    const was = found === undefined ? "missing" : "another one";
    return [{ step: this.name, object: path, found: `the CNI configuration ${path} was ${was}` }];
  }

  /** A person took it away, or started the node anew: pods may come as soon as the network stands again. */
  #sayMade(): void {
    if (isThere(this.madePath) || this.obstacle() !== undefined) return;
    mkdirSync(dirname(this.madePath), { recursive: true });
    writeFileSync(this.madePath, "");
  }

  /** Once for each run of the agent: an upgrade brings another. */
  #putProgram(): void {
    const { binDirectory } = this.directories;
    if (this.#hasProgram && isThere(programPath(binDirectory))) return;
    const source = ownSingleFile();
    if (source !== undefined) {
      // A program of a hundred megabytes is not written again because the agent was started again.
      if (!hasProgram(source, binDirectory)) putProgram(source, binDirectory);
    } else if (!isThere(programPath(binDirectory))) {
      throw new WayoutError({
        code: "no-plugin",
        kind: "usage",
        doing: "putting the CNI plugin in place",
        said: `there is none in ${binDirectory}, and this agent runs from a checkout`,
        todo: "npm run build, and start dist/wayout agent.",
      });
    }
    this.#hasProgram = true;
  }

  #checkShadows(): void {
    const [first] = shadowedBy(this.directories.configurationDirectory);
    if (first === undefined) return;
    throw new WayoutError({
      code: "shadowed",
      kind: "broken",
      doing: "keeping the CNI configuration",
      said: `${first} sorts before ${CONFLIST_NAME} in ${this.directories.configurationDirectory}: runtimes take that network, and not ours`,
      todo: `Move ${first} away when its network is no longer wanted. docs/kubernetes.md has the steps for each product.`,
    });
  }

  /** Composed anew only when something of it is another: plugins beside ours are asked for their versions. */
  #conflist(): object | undefined {
    const podCidrs = this.view()?.own.podCidrs ?? [];
    if (podCidrs.length === 0) return undefined;
    const { network, bridge, mtu } = this.network();
    const { binDirectory } = this.directories;
    const key = JSON.stringify([podCidrs, network, bridge, mtu, changedAt(join(binDirectory, "portmap"))]);
    if (this.#composed?.key !== key) {
      const request = present({
        network,
        bridge,
        masquerade: false,
        waitsFor: this.madePath,
        mtu,
      });
      const subnets = podCidrs.map((text) => parseCidr(text));
      this.#composed = { key, conflist: conflistOf(request, subnets, binDirectory) };
    }
    return this.#composed.conflist;
  }
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function changedAt(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs;
}
