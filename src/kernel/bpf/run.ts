/** Runs a program of traffic control once, on a packet of nothing: for what the kernel shall do in one piece. */
import { ETH_HLEN } from "../../linux/link-layer.ts";
import { attributes, bpf, pointerTo } from "./calls.ts";

/** enum bpf_cmd */
const BPF_PROG_TEST_RUN = 10;
/** struct __sk_buff up to the end of `cb`, five words. */
const CONTEXT = { bytes: 68, words: 48 } as const;

/** @param words what the program finds in `cb`; at most five. Returns what the program returns. */
export function runOnce(program: number, words: readonly number[]): number {
  // The least that the kernel takes for a frame.
  const frame = new Uint8Array(new ArrayBuffer(ETH_HLEN));
  const context = new Uint8Array(new ArrayBuffer(CONTEXT.bytes));
  const asked = new DataView(context.buffer);
  for (const [index, word] of words.entries()) asked.setUint32(CONTEXT.words + index * 4, word, true);
  const { bytes, view } = attributes();
  // test: prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration, ctx_size_in, …, ctx_in.
  view.setUint32(0, program, true);
  view.setUint32(8, frame.length, true);
  view.setBigUint64(16, pointerTo(frame), true);
  view.setUint32(40, context.length, true);
  view.setBigUint64(48, pointerTo(context), true);
  bpf(BPF_PROG_TEST_RUN, bytes);
  return view.getUint32(4, true);
}
