import { NoNat } from "../../src/nat/backends/none/none.ts";
import { backendSuite } from "./backend-suite.ts";

backendSuite({
  title: "none",
  needs: [],
  open: () => new NoNat(),
  translates: false,
  trace: "wayout",
  damage: {},
});
