/** The name server of hostile-resolver.test.ts, on port 53 of the namespace it is started in. */
import { decode, encode, type Answer, type Packet } from "dns-packet";

const [RIGHT, WRONG] = ["198.51.100.9", "198.51.100.66"];
const RESPONSE = 0x0180;
const TC = 0x0200;

interface Asked {
  readonly id: number;
  readonly name: string;
}

function message({ id, name }: Asked, answers: readonly Answer[], change: Partial<Packet> = {}): Buffer {
  return encode({
    type: "response",
    id,
    flags: RESPONSE,
    questions: [{ type: "A", name }],
    answers: [...answers],
    ...change,
  });
}

function a(name: string, data: string): Answer {
  return { type: "A", name, data };
}

/** Datagrams, in order. */
const DATAGRAMS: Readonly<Record<string, (asked: Asked) => Buffer[]>> = {
  "forged-first": (asked) => [
    message({ ...asked, id: asked.id ^ 1 }, [a(asked.name, WRONG)]),
    message(asked, [a("other.example", WRONG)], { questions: [{ type: "A", name: "other.example" }] }),
    message(asked, [a(asked.name, WRONG)], { type: "query" }),
    message(asked, [a(asked.name, WRONG)], { questions: [] }),
    message(asked, [a(asked.name, RIGHT)]),
  ],
  flood: (asked) => [
    ...Array.from({ length: 100 }, (_, size) => Buffer.alloc(size, 0xc0)),
    message(asked, [a(asked.name, RIGHT)]),
  ],
  "cut-amid-record": (asked) => [
    message(asked, [a(asked.name, WRONG)], { flags: RESPONSE | TC }).subarray(0, -3),
  ],
  "cut-at-record": (asked) => [message(asked, [], { flags: RESPONSE | TC })],
  "cut-other-question": (asked) => [
    message(asked, [], { flags: RESPONSE | TC, questions: [{ type: "A", name: "other.example" }] }),
  ],
  "foreign-owner": (asked) => [
    message(asked, [a("other.example", WRONG), { type: "CNAME", name: "x.example", data: "other.example" }]),
  ],
  "other-class": (asked) => [message(asked, [{ ...a(asked.name, WRONG), class: "CH" } as Answer])],
  "endless-aliases": (asked) => [
    message(asked, [
      { type: "CNAME", name: asked.name, data: "b.example" },
      { type: "CNAME", name: "b.example", data: asked.name },
    ]),
  ],
  "trailing-bytes": (asked) => [Buffer.concat([message(asked, [a(asked.name, WRONG)]), Buffer.alloc(7)])],
};

const STREAMS: Readonly<Record<string, (asked: Asked) => Buffer | undefined>> = {
  "tcp-other-id": (asked) => message({ ...asked, id: asked.id ^ 1 }, [a(asked.name, WRONG)]),
  "tcp-cut-too": (asked) => message(asked, [a(asked.name, WRONG)], { flags: RESPONSE | TC }),
  "tcp-closes": () => undefined,
};

function askedIn(bytes: Buffer): Asked {
  const { id, questions } = decode(bytes);
  return { id: id!, name: questions![0]!.name };
}

function labelOf({ name }: Asked): string {
  return name.split(".")[0]!;
}

await Bun.udpSocket({
  hostname: "127.0.0.1",
  port: 53,
  socket: {
    data: (socket, bytes, port, address) => {
      const asked = askedIn(bytes);
      const label = labelOf(asked);
      const plain = label.startsWith("tcp-")
        ? message(asked, [], { flags: RESPONSE | TC })
        : message(asked, [a(asked.name, RIGHT)]);
      for (const datagram of DATAGRAMS[label]?.(asked) ?? [plain]) socket.send(datagram, port, address);
    },
  },
});

Bun.listen({
  hostname: "127.0.0.1",
  port: 53,
  socket: {
    data: (socket, bytes) => {
      const asked = askedIn(bytes.subarray(2));
      const label = labelOf(asked);
      if (label === "tcp-drips") {
        socket.write(Uint8Array.of(0xff, 0xff));
        const drip = setInterval(() => socket.write(Uint8Array.of(0)), 50);
        setTimeout(() => clearInterval(drip), 5000);
        return;
      }
      const answer = label in STREAMS ? STREAMS[label]!(asked) : message(asked, [a(asked.name, RIGHT)]);
      if (answer === undefined) return void socket.end();
      socket.write(Buffer.concat([Uint8Array.of(answer.length >> 8, answer.length & 255), answer]));
    },
  },
});
console.log("ready");
