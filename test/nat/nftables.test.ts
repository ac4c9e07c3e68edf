import { NftablesNat } from "../../src/nat/nftables.ts";
import { backendSuite } from "./backend-suite.ts";

backendSuite({
  title: "nftables",
  needs: [],
  open: (namespace) => new NftablesNat({ namespace }),
  translates: true,
  trace: "wayout",
  damage: {
    "the ruleset was flushed": "nft flush ruleset",
    "the table was deleted": "nft delete table inet wayout",
    "the table's rules were flushed": "nft flush table inet wayout",
    "the table sleeps": "nft add table inet wayout '{ flags dormant; }'",
    "a chain was emptied": "nft flush chain inet wayout masquerade-3000-3999",
    "the base chain is gone":
      "nft flush chain inet wayout postrouting; nft delete chain inet wayout postrouting",
    "the chain is hooked elsewhere":
      "nft flush chain inet wayout postrouting; nft delete chain inet wayout postrouting; nft add chain inet wayout postrouting '{ type nat hook output priority 95; }'",
    "somebody put a rule into our chain": "nft insert rule inet wayout postrouting accept",
    "an exclusion is gone":
      "nft delete element inet wayout untranslated4 { 10.9.0.0-10.9.2.255 . 10.0.0.0/8 }",
    "a source is gone": "nft delete element inet wayout egress4 { 10.9.0.0/24 }",
    "all sources are gone": "nft flush map inet wayout egress6",
    "a fixed address is another":
      "nft delete element inet wayout snat4 { 10.9.1.0/24 }; nft add element inet wayout snat4 { 10.9.1.0/24 : 203.0.113.8-203.0.113.8 }",
    "the claims are gone": "nft flush set inet wayout claims",
    "there is a set too many": "nft add set inet wayout stranger '{ type mark; }'",
  },
});
