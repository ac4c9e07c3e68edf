/** Where a network's addresses come from: host-local in this process, another plugin, or nowhere (layer 2 only). */
import { ipFromNumber } from "../address/ip.ts";
import type { Assignment, AssignedAddress, AddressOwner } from "../ipam/assignment.ts";
import { dataDirectory, readHostLocal, type HostLocalConfiguration } from "../ipam/configuration.ts";
import * as hostLocal from "../ipam/host-local.ts";
import { countReservations } from "../ipam/store.ts";
import { rethrowMistake, WayoutError } from "../error.ts";
import type { CniCall, CniCommand } from "./call.ts";
import type { NetworkHeader } from "./configuration.ts";
import { runDelegate } from "./delegate.ts";
import { readResult } from "./result.ts";
import { atLeast } from "./version.ts";

export interface AddressManagement {
  /** Subnets of this network as the configuration knows them; empty when only each result tells. */
  readonly subnets: readonly string[];
  /** Whether the pod's interface must be there before an address is asked for. */
  readonly wantsLink: boolean;
  /** One address of each range, or an error and nothing. */
  add(): Assignment;
  /** Never fails because there is nothing to release. The addresses that were released, as far as they are known. */
  del(): readonly string[];
  /**
   * What an `add` would answer, by way of example: one address of each set, of the range whose gateway is `there` already
   * if there is one. Empty when nobody but the other plugin knows.
   */
  samples(there: readonly string[]): readonly AssignedAddress[];
  /** @throws when the reservation of one of these addresses does not stand */
  check(addresses: readonly string[]): void;
  /** Gives back what no valid attachment holds; the addresses, as far as they are known. */
  collect(isValid: (owner: AddressOwner) => boolean, dryRun: boolean): readonly hostLocal.Garbage[];
  /** @throws when the next add cannot succeed */
  status(): void;
  /** How many addresses are in use; undefined when only the other plugin knows. */
  held(): number | undefined;
  /** The addresses that this call's attachment holds, as far as they are known. */
  reserved(): readonly string[];
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * @param forCleanUp read no more of the configuration than is needed to release addresses, so that a mistake in the
 *   rest of it keeps nothing alive
 * @throws FieldError
 */
export function addressManagement(
  header: NetworkHeader,
  call: CniCall,
  environment: Environment,
  forCleanUp = false,
): AddressManagement | undefined {
  if (header.ipamType === "") return undefined;
  if (header.ipamType !== "host-local") return new Delegated(header, call, environment);
  const ipam = header.fields.object("ipam")!;
  const directory = `${dataDirectory(ipam)}/${header.network}`;
  return new HostLocal(directory, call, forCleanUp ? undefined : readHostLocalOf(header, call));
}

function readHostLocalOf(header: NetworkHeader, call: CniCall): HostLocalConfiguration {
  const { fields, network, version } = header;
  const args = fields.object("args")?.object("cni");
  const runtime = fields.object("runtimeConfig");
  const configuration = readHostLocal(network, fields.object("ipam")!, {
    ...(call.args.ip === undefined ? {} : { argument: call.args.ip }),
    ...(args === undefined ? {} : { args }),
    ...(runtime === undefined ? {} : { runtime }),
  });
  if (!atLeast(version, "0.3.0")) refuseSeveral(configuration, fields);
  return configuration;
}

/** Results before 0.3.0 have room for one address of each family. */
function refuseSeveral({ sets }: HostLocalConfiguration, fields: NetworkHeader["fields"]): void {
  const families = sets.map((set) => set[0]!.subnet.family);
  if (new Set(families).size < families.length) {
    fields.refuse("cniVersion", "before 0.3.0 takes one address of a family, not two");
  }
}

class HostLocal implements AddressManagement {
  readonly wantsLink = false;

  constructor(
    private readonly directory: string,
    private readonly call: CniCall,
    private readonly configuration: HostLocalConfiguration | undefined,
  ) {}

  get subnets(): readonly string[] {
    const ranges = this.configuration?.sets.flat() ?? [];
    return [...new Set(ranges.map(({ subnet }) => `${subnet.network}/${subnet.prefixLength}`))];
  }

  get #owner(): AddressOwner {
    return { container: this.call.container, interfaceName: this.call.interfaceName };
  }

  add(): Assignment {
    return hostLocal.assign(this.configuration!, this.#owner);
  }

  del(): readonly string[] {
    return hostLocal.release(this.directory, this.#owner);
  }

  check(addresses: readonly string[]): void {
    hostLocal.check(this.directory, this.#owner, addresses);
  }

  collect(isValid: (owner: AddressOwner) => boolean, dryRun: boolean): readonly hostLocal.Garbage[] {
    return hostLocal.collect(this.directory, isValid, dryRun);
  }

  status(): void {
    hostLocal.status(this.configuration!);
  }

  samples(there: readonly string[]): readonly AssignedAddress[] {
    return this.configuration!.sets.map((set) => {
      let range = set[0]!;
      for (const other of set) {
        if (!there.includes(other.gateway)) continue;
        range = other;
        break;
      }
      const { subnet, first, gateway } = range;
      return { address: `${ipFromNumber(subnet.family, first)}/${subnet.prefixLength}`, gateway };
    });
  }

  held(): number {
    return countReservations(this.directory);
  }

  reserved(): readonly string[] {
    return hostLocal.reservedBy(this.directory, this.#owner);
  }
}

class Delegated implements AddressManagement {
  readonly subnets: readonly string[] = [];
  /** Nobody says which plugin needs it; the reference plugins make it first for all. */
  readonly wantsLink = true;

  constructor(
    private readonly header: NetworkHeader,
    private readonly call: CniCall,
    private readonly environment: Environment,
  ) {}

  add(): Assignment {
    try {
      return this.#assignment(this.#run("ADD"));
    } catch (error) {
      // The specification: after an ADD that failed there comes a DEL, for it may have got half-way.
      this.#runQuietly("DEL");
      throw error;
    }
  }

  del(): readonly string[] {
    this.#run("DEL");
    return [];
  }

  check(): void {
    this.#run("CHECK");
  }

  collect(_isValid: (owner: AddressOwner) => boolean, dryRun: boolean): readonly hostLocal.Garbage[] {
    // The other plugin has no rehearsal, and says nothing of what it gave back.
    if (!dryRun) this.#run("GC");
    return [];
  }

  status(): void {
    this.#run("STATUS");
  }

  samples(): readonly AssignedAddress[] {
    return [];
  }

  held(): undefined {
    return undefined;
  }

  reserved(): readonly string[] {
    return [];
  }

  #assignment(output: string): Assignment {
    const { ipamType, version } = this.header;
    let value: unknown;
    try {
      value = JSON.parse(output);
    } catch (error) {
      throw new WayoutError({
        code: "delegate-failed",
        kind: "broken",
        doing: `reading the result of the IPAM plugin ${ipamType}`,
        said: "it is not JSON",
        cause: error,
      });
    }
    const result = readResult(value, `the result of ${ipamType}`, version);
    if (result.ips.length === 0) {
      throw new WayoutError({
        code: "delegate-failed",
        kind: "broken",
        doing: `asking the IPAM plugin ${ipamType} for an address`,
        said: "it succeeded and returned none",
      });
    }
    const addresses = result.ips.map(({ address, gateway }): AssignedAddress => ({
      address,
      ...(gateway === undefined ? {} : { gateway }),
    }));
    return { addresses, routes: result.routes, dns: result.dns };
  }

  #run(command: CniCommand): string {
    return runDelegate(this.header.ipamType, command, this.header.text, this.call.path, this.environment);
  }

  #runQuietly(command: CniCommand): void {
    try {
      this.#run(command);
    } catch (error) {
      rethrowMistake(error);
      // The first failure is the one to tell.
    }
  }
}
