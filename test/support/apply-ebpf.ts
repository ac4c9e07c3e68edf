/** Applies an intent to the eBPF programs of a namespace: PATH INTENT FLOWS. For tests that go on meanwhile. */
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import type { NatIntent } from "../../src/nat/intent.ts";

const [path = "", intent = "", flows = ""] = process.argv.slice(2);
using namespace = NetworkNamespace.open(path);
using nat = new EbpfNat({ namespace, flows: Number(flows) });
nat.apply(JSON.parse(intent) as NatIntent);
