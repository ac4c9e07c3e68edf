/** Answers one CNI call. Returns the process's exit code. */
export async function runPlugin(): Promise<number> {
  throw new Error("not built yet");
}
