// The official Node SDKs, each used as an application uses it; takes and prints what sdk.py does. Read from standard input by Node, so
// that the working directory says where packages are.

const SAY = [{ role: "user", content: "hello" }];

async function openai(address, key, options) {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: key, ...options });
  const model = "gpt-5";
  return {
    async chat() {
      return (await client.chat.completions.create({ model, messages: SAY })).choices[0].message.content;
    },
    async chat_stream() {
      let text = "";
      let tokens;
      const ask = { model, messages: SAY, stream: true, stream_options: { include_usage: true } };
      for await (const chunk of await client.chat.completions.create(ask)) {
        text += chunk.choices.map((choice) => choice.delta.content ?? "").join("");
        tokens = chunk.usage ?? tokens;
      }
      check(tokens.total_tokens === 4, tokens);
      return text;
    },
    async responses() {
      return (await client.responses.create({ model, input: "hello" })).output_text;
    },
    async responses_stream() {
      let text = "";
      let last;
      for await (last of await client.responses.create({ model, input: "hello", stream: true })) {
        text += last.type === "response.output_text.delta" ? last.delta : "";
      }
      check(last.type === "response.completed" && last.response.usage.total_tokens === 4, last);
      return text;
    },
  };
}

async function anthropic(address, key, options) {
  const { default: Anthropic } = await import("@anthropic-ai/sdk");
  const client = new Anthropic({ baseURL: address, apiKey: key, ...options });
  const ask = { model: "claude-sonnet-5", max_tokens: 100, messages: SAY };
  return {
    async messages() {
      return (await client.messages.create(ask)).content[0].text;
    },
    async messages_stream() {
      const message = await client.messages.stream(ask).finalMessage();
      check(message.usage.output_tokens === 3, message);
      return message.content[0].text;
    },
  };
}

function check(holds, what) {
  if (!holds) throw new Error(JSON.stringify(what));
}

async function outcome(call) {
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  try {
    return { text: await call(), seconds: seconds() };
  } catch (error) {
    return {
      error: error.constructor.name,
      message: error.message,
      status: error.status ?? null,
      type: error.type ?? null,
      code: error.code ?? null,
      body: JSON.stringify(error.error ?? null),
      retry_after: error.headers?.get("retry-after") ?? null,
      seconds: seconds(),
    };
  }
}

const { readFile } = await import("node:fs/promises");
const CLIENTS = { openai: [openai, "openai"], anthropic: [anthropic, "@anthropic-ai/sdk"] };
const job = JSON.parse(process.argv[2]);
const [client, name] = CLIENTS[job.client];
await client(job.address, "nobody", {}); // the first import takes its time and is nobody's wait
const runs = await Promise.all(
  job.runs.map(async (run) => {
    const call = (await client(job.address, run.key, run.options))[run.call];
    const came = [];
    for (let time = 0; time < run.times; time += 1) came.push(await outcome(call));
    return [run.name, came];
  }),
);
const { version } = JSON.parse(await readFile(`node_modules/${name}/package.json`, "utf8"));
console.log(JSON.stringify({ version: `${version}, Node ${process.version}`, runs: Object.fromEntries(runs) }));
