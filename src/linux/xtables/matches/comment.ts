import { describe } from "../describe.ts";
import { option } from "../info.ts";

export const comment = describe({
  name: "comment",
  revisions: [0],
  read: (info) => info.text(0, Math.min(256, info.length)),
  options: (text) => [option("--comment", text)],
});
