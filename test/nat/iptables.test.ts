import { IptablesNat } from "../../src/nat/iptables.ts";
import { chainOf } from "../../src/nat/iptables-ruleset.ts";
import { backendSuite } from "./backend-suite.ts";

for (const variant of ["nft", "legacy"] as const) {
  const [v4, v6] = [`iptables-${variant} -t nat`, `ip6tables-${variant} -t nat`];
  const chain = chainOf("policy");
  backendSuite({
    title: `iptables-${variant}`,
    needs: [`iptables-${variant}`, `ip6tables-${variant}-restore`],
    open: (namespace) => new IptablesNat({ namespace, variant }),
    translates: true,
    trace: "WAYOUT",
    damage: {
      "the table was flushed": `${v4} -F`,
      "the table was flushed and its chains deleted": `${v6} -F; ${v6} -X`,
      "the jump is gone": `${v4} -D POSTROUTING 1`,
      "the jump is there twice": `${v4} -S POSTROUTING | sed -n "s/^-A/${v4} -A/p" | sh -e`,
      "a chain was emptied": `${v4} -F ${chain}`,
      "one exclusion is gone": `${v4} -D ${chain} 1`,
      "one source is gone": `${v6} -D WAYOUT-POSTROUTING 3`,
      "somebody put a rule into our chain": `${v4} -I ${chain} 1 -j ACCEPT`,
    },
  });
}
