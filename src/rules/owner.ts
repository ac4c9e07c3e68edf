/** Whose rule is this? Our own rules among those of all products (naming/products.ts), and rules of policy routing. */
import type { RuleMark } from "../nat/backend.ts";
import { BACKENDS, NAT_BACKENDS } from "../nat/backends/backends.ts";
import {
  FINGERPRINTS,
  productOf,
  type Fingerprint,
  type Owner,
  type RuleTraits,
} from "../naming/products.ts";
import { present } from "../present.ts";

function ourFingerprint({ table, chainPrefix, detail }: RuleMark): Fingerprint {
  return present({
    product: "wayout",
    table: table === undefined ? undefined : new RegExp(`^${table}$`),
    chain: chainPrefix === undefined ? undefined : new RegExp(`^${chainPrefix}`),
    detail,
  });
}

const ALL: readonly Fingerprint[] = [
  ...NAT_BACKENDS.flatMap((name) => BACKENDS[name].marks).map(ourFingerprint),
  ...FINGERPRINTS,
];

/** undefined when no product is recognised: a person, or a product that is not in the list. */
export function ownerOf(traits: RuleTraits): Owner | undefined {
  return productOf(traits, ALL);
}

/** How a product's policy-routing rules are known. */
interface PolicyPrint {
  readonly product: string;
  readonly priorities?: readonly [first: number, last: number];
  readonly tables?: readonly [first: number, last: number];
  readonly mark?: number;
  /** The bits of the mark that are the product's; all when absent. */
  readonly mask?: number;
  /** Interfaces that are there while the product is in use. */
  readonly link?: RegExp;
}

const POLICY_PRINTS: readonly PolicyPrint[] = [
  { product: "Tailscale", priorities: [5210, 5270], link: /^tailscale/ },
  { product: "Tailscale", tables: [52, 52], link: /^tailscale/ },
  { product: "nm-cloud-setup", tables: [30200, 30499], link: /^/ },
  { product: "wg-quick", tables: [51820, 51820], link: /^wg/ },
  { product: "wg-quick", mark: 0xca6c, link: /^wg/ },
  { product: "Mullvad", mark: 0x6d6f6c65, link: /^wg0?-mullvad/ },
  { product: "NordVPN", mark: 0xe1f1, link: /^nordlynx|^nordtun/ },
  { product: "NetBird", tables: [7120, 7120], link: /^wt\d/ },
  { product: "kube-router", tables: [77, 79], link: /^kube-(bridge|dummy-if|tunnel)/ },
  { product: "Cilium", tables: [2004, 2005], link: /^cilium_/ },
  { product: "AWS VPC CNI", priorities: [1536, 1536], link: /^eni|^vlan\.eth/ },
  { product: "AWS VPC CNI", priorities: [512, 512], link: /^eni|^vlan\.eth/ },
  { product: "mwan3", priorities: [1001, 3999], mask: 0x3f00, link: /^/ },
];

interface PolicyTraits {
  readonly priority: number;
  readonly table: number;
  readonly mark?: number;
  readonly mask?: number;
}

/** The product that makes such rules of policy routing, likely; undefined when none is known. */
export function productOfPolicyRule(rule: PolicyTraits): PolicyPrint | undefined {
  const within = (value: number, range: readonly [number, number] | undefined): boolean =>
    range === undefined || (value >= range[0] && value <= range[1]);
  return POLICY_PRINTS.find(
    (one) =>
      within(rule.priority, one.priorities) &&
      within(rule.table, one.tables) &&
      (one.mark === undefined || one.mark === rule.mark) &&
      (one.mask === undefined || one.mask === rule.mask),
  );
}

export function ownerOfPolicyRule(rule: PolicyTraits): string | undefined {
  const print = productOfPolicyRule(rule);
  return print === undefined ? undefined : `${print.product}, likely`;
}
