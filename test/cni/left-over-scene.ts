/** What `wayout cni gc` has to judge: pods that their runtime remembers, has forgotten, or that are gone. */
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { dataDirectory, reserved } from "./node.ts";
import { bridgeNetwork, call, freshPod, must, pluginProgram, type Configuration } from "./plugin.ts";

type Pod = ReturnType<typeof freshPod>;

interface Said {
  readonly exitCode: number;
  readonly links: readonly { readonly alias: string }[];
  readonly addresses: readonly { readonly address: string }[];
  readonly doubts: readonly { readonly what: string; readonly why: string }[];
  readonly refusal?: string;
  readonly natRules: boolean;
}

interface Options {
  readonly remembered?: boolean;
  readonly minutes?: number;
}

/** A node with one network, and a runtime that keeps its cache in a folder of its own. */
export class LeftOverScene {
  readonly node = freshNamespace("node");
  readonly conf: Configuration;
  readonly cache: string;
  readonly #directory = mkdtempSync(join(tmpdir(), "wayout-left-"));

  constructor(extra: Configuration = {}) {
    afterThisTest(() => rmSync(this.#directory, { recursive: true }));
    this.conf = bridgeNetwork({ cniVersion: "1.0.0", ...extra });
    this.cache = join(this.#directory, "results");
    for (const name of ["results", "conf"]) mkdirSync(join(this.#directory, name));
    const { name, cniVersion, ...plugin } = { ...this.conf, type: "wayout" } as Configuration;
    writeFileSync(
      join(this.#directory, "conf", "10-it.conflist"),
      JSON.stringify({ cniVersion, name, plugins: [plugin] }),
    );
  }

  /** Attached an hour ago. */
  attach(name: string, options: Options = {}): Pod {
    return this.add(freshPod(name), options);
  }

  add(pod: Pod, options: Options = {}): Pod {
    const result = must(call(this.node, "ADD", this.conf, pod));
    const then = Date.now() / 1000 - (options.minutes ?? 60) * 60;
    for (const { address } of result.ips!) {
      utimesSync(join(dataDirectory(this.conf), address.split("/")[0]!), then, then);
    }
    if (options.remembered === true) this.remember(pod, result);
    return pod;
  }

  remember({ container, netns }: Pod, result: object, directory = this.cache): string {
    const networkName = String(this.conf["name"]);
    const entry = { kind: "cniCacheV1", containerId: container, ifName: "eth0", networkName, netns, result };
    const file = join(directory, `${networkName}-${container}-eth0`);
    writeFileSync(file, JSON.stringify(entry));
    return file;
  }

  gcCommand(...options: string[]): string[] {
    const directories = ["--conf-dir", join(this.#directory, "conf"), "--cache-dir", this.cache];
    return [pluginProgram(), "cni", "gc", "--json", ...directories, ...options];
  }

  gc(...options: string[]): Said {
    const ran = run(this.node, this.gcCommand(...options));
    const { networks } = JSON.parse(ran.stdout) as { readonly networks: readonly Omit<Said, "exitCode">[] };
    return { exitCode: ran.exitCode, ...networks[0]! };
  }

  addresses(): string[] {
    return reserved(this.conf);
  }
}

/** From here on only this very process holds the pod's namespace, by a descriptor, which is how it is named from now on. */
export function unname(pod: Pod): Pod {
  ask(undefined, ["ip", "netns", "delete", pod.namespace.name!]);
  return { ...pod, netns: `/proc/${process.pid}/fd/${pod.namespace.fd}` };
}
