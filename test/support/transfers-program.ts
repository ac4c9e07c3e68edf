/**
 * Runs in a pod: connections that last, and new ones when it is asked. A program of its own, for a namespace belongs to a
 * process. It is told one word a line on stdin and answers with one line of JSON:
 *
 *     new     how many milliseconds until a new connection told the address that the outside sees
 *     state   how many of those that last were ever cut, and how many milliseconds it takes until each of the others has heard
 *             something again: one that is not cut, and silent for good, is lost as well
 *     renew   those that were cut, or hear nothing, are made again, and forgotten
 */
import process from "node:process";

const [address = "", echoPort = "", whoPort = "", wanted = ""] = process.argv.slice(2);
const SAY_EVERY_MS = 250;
const RENEW_AFTER_MS = 8_000;
/** Who says something every 250 ms, and hears nothing for so long, is silent. */
const SILENT_MS = 4_000;
/** A sender that lost its packets for a while tries again later and later. */
const MOST_SILENT_MS = 60_000;
const NEW_TIMEOUT_MS = 250;
const MOST_NEW_MS = 20_000;

interface Transfer {
  heard: number;
  cut: boolean;
  readonly end: () => void;
}

const transfers: Transfer[] = [];
for (let count = 0; count < Number(wanted); count++) transfers.push(await begun());
console.log(JSON.stringify({ ready: transfers.length }));

for await (const line of console) {
  if (line === "new") console.log(JSON.stringify(await newConnection()));
  if (line === "state") console.log(JSON.stringify(await state()));
  if (line === "renew") {
    // The kernel forgets the flows of a lost address when it comes to it, and each notices at its next word: by a reset,
    // or by silence where the port that it is given now is that of another one to the server, who was told of no end.
    const asked = performance.now();
    while (transfers.some(({ cut }) => !cut) && performance.now() - asked < RENEW_AFTER_MS)
      await Bun.sleep(20);
    for (const [index, { cut, heard, end }] of transfers.entries()) {
      if (!cut && performance.now() - heard < SILENT_MS) continue;
      end();
      transfers[index] = await begun();
    }
    console.log(JSON.stringify(await state()));
  }
}
process.exit(0);

async function state(): Promise<{ readonly cut: number; readonly heardMs: number }> {
  const asked = performance.now();
  const isLeft = ({ cut, heard }: Transfer): boolean => !cut && heard < asked;
  while (transfers.some(isLeft) && performance.now() - asked < MOST_SILENT_MS) await Bun.sleep(20);
  return {
    cut: transfers.filter(({ cut }) => cut).length,
    heardMs: Math.round(performance.now() - asked),
  };
}

async function begun(): Promise<Transfer> {
  const transfer: Transfer = { heard: performance.now(), cut: false, end: () => socket.terminate() };
  const lost = (): void => {
    transfer.cut = true;
    clearInterval(timer);
  };
  const socket = await Bun.connect({
    hostname: address,
    port: Number(echoPort),
    socket: {
      data: () => void (transfer.heard = performance.now()),
      close: lost,
      error: lost,
    },
  });
  const timer = setInterval(() => void socket.write("a line of a transfer that lasts\n"), SAY_EVERY_MS);
  return transfer;
}

/** One attempt after the other, each given up soon: a lost SYN is sent again only after a second. */
async function newConnection(): Promise<{ readonly ms: number; readonly seenAs: string }> {
  const began = performance.now();
  for (;;) {
    const seenAs = await attempt();
    const ms = Math.round(performance.now() - began);
    if (seenAs !== undefined || ms > MOST_NEW_MS) return { ms, seenAs: seenAs ?? "nobody" };
  }
}

async function attempt(): Promise<string | undefined> {
  const heard = Promise.withResolvers<string | undefined>();
  const timer = setTimeout(() => heard.resolve(undefined), NEW_TIMEOUT_MS);
  let socket: { end: () => void } | undefined;
  Bun.connect({
    hostname: address,
    port: Number(whoPort),
    socket: {
      data: (_, data) => heard.resolve(data.toString()),
      error: () => heard.resolve(undefined),
      close: () => heard.resolve(undefined),
    },
  }).then(
    (made) => (socket = made),
    () => setTimeout(() => heard.resolve(undefined), 20),
  );
  const said = await heard.promise;
  clearTimeout(timer);
  socket?.end();
  return said;
}
