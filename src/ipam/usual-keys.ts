/**
 * Programs in Go take a key whatever its case, the plugins that we replace among them, and people write `IsGateway` and
 * `isgateway`. Where a configuration comes in its keys are given their usual spelling; behind that nobody asks.
 */

/** Every key that this program reads of a network configuration, and those that stand beside them in most. */
const USUAL: Readonly<Record<string, true>> = tableOf(
  "cniVersion name type capabilities runtimeConfig args cni prevResult dns nameservers domain search options " +
    "bridge isGateway isDefaultGateway forceAddress ipMasq ipMasqBackend mtu hairpinMode promiscMode vlan vlanTrunk minID " +
    "maxID id preserveDefaultVlan macspoofchk enabledad disableContainerInterface portIsolation mac " +
    "ipam subnet ranges rangeStart rangeEnd gateway routes dst gw advmss priority table scope dataDir resolvConf ips ipRanges " +
    "masquerade v4 v6 snat portRange randomFully nonMasqueradeCIDRs waitsFor",
);

/** A plain object, for a Set is slower in what runs only once. */
function tableOf(words: string): Readonly<Record<string, true>> {
  const table = Object.create(null) as Record<string, true>;
  for (const word of words.split(" ")) table[word] = true;
  return table;
}

/** The value with its keys as they are usually written, in place. A key that is there in its usual spelling stands. */
export function withUsualKeys<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    for (const item of value) withUsualKeys(item);
    return value;
  }
  const object = value as Record<string, unknown>;
  for (const key in object) {
    // A plugin wrote a result, and no person.
    if (typeof object[key] === "object" && key !== "prevResult") withUsualKeys(object[key]);
    if (!(key in USUAL)) respell(object, key);
  }
  return value;
}

function respell(object: Record<string, unknown>, key: string): void {
  const lower = key.toLowerCase();
  for (const usual in USUAL) {
    if (usual.toLowerCase() === lower && !Object.hasOwn(object, usual)) object[usual] = object[key];
  }
}
