import type { FindingCode } from "../../causes/catalogue/all.ts";
import type { Target } from "../../doctor/predict/path.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";

/** The lab's four namespaces. */
export interface FaultWorld {
  readonly blue: NetworkNamespace;
  readonly green: NetworkNamespace;
  readonly node: NetworkNamespace;
  readonly internet: NetworkNamespace;
}

export interface Fault {
  /** For the command line: kebab-case. */
  readonly name: string;
  /** What is done to the world, in one line. */
  readonly title: string;
  /** What the doctor of ns-blue must say. */
  readonly finding: FindingCode;
  /** The family of the traffic that breaks; IPv4 when absent. */
  readonly family?: 6;
  /** What cannot be reached, when it is not the web: the doctor must be asked about it, but for `onlyNames`. */
  readonly target?: Target;
  /** Addresses can still be reached: only names are not found. The doctor says so, whatever it is asked about. */
  readonly onlyNames?: true;
  /** Small packets pass: only a large upload never ends. */
  readonly onlyLarge?: true;
  /** No table of this node shows it: the doctor must send packets (--to). */
  readonly onlyLive?: true;
  /** The doctor cannot heal it from the node: only `mend` does. */
  readonly beyondRepair?: true;
  /** The fault needs this program, because it is about that program's rules. */
  readonly needs?: string;
  readonly apply: (world: FaultWorld) => void;
  /** Takes back what apply did; fine when the fault was healed by other means meanwhile. */
  readonly mend: (world: FaultWorld) => void;
}
