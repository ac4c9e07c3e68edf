/** Before anything is sent: is it translated, as whom, by which rule, and which line of whose policy says so. */
import type { InputHTMLAttributes, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { NatExplanation } from "../../examination/explain-nat.ts";
import { ask } from "../state/ask.ts";
import { Keeper } from "../state/kept.ts";
import { destination, pods } from "../state/looking.ts";
import { go, addressBar } from "../state/address-bar.ts";
import { Mark, Panel, Trouble, Waiting } from "./parts.tsx";

const explanation = new Keeper<NatExplanation>();

export function Explain(): JSX.Element {
  const { src = "", dst = "", proto = "tcp", port = "" } = addressBar.value.of;
  const [form, setForm] = useState({ src: src || (pods.value[0]?.name ?? ""), dst, proto, port });
  useEffect(() => {
    if (src === "" || dst === "") return explanation.forget();
    const own = pods.value.find(({ name }) => name === src)?.ask ?? src;
    void explanation.ask(
      (signal) => ask("/v1/explain", { parameters: { src: own, dst, proto, port }, signal }),
      true,
    );
  }, [src, dst, proto, port]);
  const field = (
    name: keyof typeof form,
    label: string,
    hint: string,
    more: InputHTMLAttributes = {},
  ): JSX.Element => (
    <label>
      {label}
      <input
        {...more}
        value={form[name]}
        placeholder={hint}
        spellcheck={false}
        maxLength={300}
        onInput={(event) => setForm({ ...form, [name]: event.currentTarget.value })}
      />
    </label>
  );
  const { value, trouble, asking } = explanation.state.value;
  return (
    <Panel title="What becomes of a packet" class="explain">
      <form
        class="filters"
        onSubmit={(event) => {
          event.preventDefault();
          go(form);
        }}
      >
        {field("src", "From", "a pod, or an address", {
          list: "pod-names",
          required: true,
        })}
        {field("dst", "To", destination.value.replace(/:\d+$/, ""), { required: true })}
        <label>
          Protocol
          <select
            value={form.proto}
            onChange={(event) => setForm({ ...form, proto: event.currentTarget.value })}
          >
            {["tcp", "udp", "icmp"].map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        {field("port", "Port", "443", { inputMode: "numeric", pattern: "[0-9]*" })}
        <button type="submit" class="primary">
          Explain
        </button>
        <datalist id="pod-names">
          {pods.value.slice(0, 300).map(({ name }) => (
            <option key={name} value={name} />
          ))}
        </datalist>
      </form>
      {trouble !== undefined && <Trouble trouble={trouble} />}
      {asking && <Waiting what="Following the tables" />}
      {value !== undefined && <Answer value={value} />}
      {value === undefined && !asking && trouble === undefined && (
        <p class="empty">Nothing is sent: the node's own tables are followed, as for a packet.</p>
      )}
    </Panel>
  );
}

function Answer({ value: { wanted, foreseen } }: { readonly value: NatExplanation }): JSX.Element {
  const written = wanted.by?.written ?? wanted.kept?.written;
  return (
    <div class="explained" aria-live="polite">
      <section>
        <h3>What is wanted</h3>
        <p class="cause">{wanted.text}</p>
        <dl>
          {wanted.as !== undefined && <Fact name="as" text={wanted.as} />}
          {wanted.by !== undefined && (
            <Fact name="owner" text={`${wanted.by.owner}, for ${wanted.by.cidr}`} />
          )}
          {written !== undefined && (
            <Fact name="written in" text={`${written.file}:${written.line} (${written.path})`} />
          )}
          {wanted.entersBy !== undefined && <Fact name="enters by" text={wanted.entersBy} />}
          {wanted.fromNode === true && <Fact name="sent by" text="the node itself" />}
          {wanted.leavesBy !== undefined && <Fact name="leaves by" text={wanted.leavesBy} />}
        </dl>
      </section>
      {foreseen !== undefined && (
        <section>
          <h3>What the tables do</h3>
          <p class="cause">
            <Mark sign={foreseen.findings.length === 0 ? "good" : "bad"} /> {foreseen.answer}
          </p>
          <dl>
            {foreseen.sent !== undefined && <Fact name="sent" text={foreseen.sent} />}
            {foreseen.left !== undefined && <Fact name="leaves as" text={foreseen.left} />}
            {foreseen.by !== undefined && (
              <Fact name="by" text={`${foreseen.by.place}, ${foreseen.by.owner}'s`} />
            )}
            {foreseen.findings.map(({ code, text, owner }) => (
              <Fact key={code} name={code} text={`${text} (${owner})`} />
            ))}
            {!foreseen.certain && <Fact name="sure?" text="no: something that decides cannot be read" />}
          </dl>
        </section>
      )}
    </div>
  );
}

function Fact({ name, text }: { readonly name: string; readonly text: string }): JSX.Element {
  return (
    <>
      <dt>{name}</dt>
      <dd>{text}</dd>
    </>
  );
}
