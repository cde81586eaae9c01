// An agent on the openai SDK: chat, chat streams, responses, then chat until it is refused.

import OpenAI from 'openai';
import { prompt, say, untilTheWall } from './agent.mjs';

const client = new OpenAI();
const model = 'gpt-4o';

const chat = (content, options = {}, request = {}) =>
  client.chat.completions.create({ model, messages: [{ role: 'user', content }], ...options }, request);

const collect = async (stream) => {
  const all = [];
  for await (const item of stream) all.push(item);
  return all;
};

const plain = await chat(prompt({ input: 1200, cached: 200, output: 30, model: 'gpt-4o-2024-08-06' }));
say('plain', { text: plain.choices[0].message.content, model: plain.model, usage: plain.usage });

const chunks = await collect(await chat(prompt({ input: 400, output: 60, chunks: 6 }), { stream: true }));
say('stream', {
  text: chunks.map((c) => c.choices[0]?.delta.content ?? '').join(''),
  chunks: chunks.length,
  without_choices: chunks.filter((c) => c.choices.length === 0).length,
  usage: chunks.map((c) => c.usage).filter(Boolean),
  // A stream that was not asked for usage has chunks without the field.
  with_usage_field: chunks.filter((c) => 'usage' in c).length,
});

const response = await client.responses.create({ model, input: prompt({ input: 700, cached: 100, output: 50 }) });
say('responses', { text: response.output_text, usage: response.usage });

const events = await collect(
  await client.responses.create({ model, input: prompt({ input: 900, output: 40, chunks: 3 }), stream: true }),
);
say('responses stream', {
  text: events.map((e) => (e.type === 'response.output_text.delta' ? e.delta : '')).join(''),
  types: events.map((e) => e.type),
  usage: events.at(-1).response.usage,
});

for (let number = 0; number < 3; number++) {
  const answer = await chat(prompt({ input: 1000 + number, output: 100 }), { max_completion_tokens: 400 });
  say('several', { number, usage: answer.usage });
}

await untilTheWall(
  () => chat(prompt({ input: 600, output: 300 }), { max_completion_tokens: 300 }),
  () => chat(prompt({ input: 10, output: 1 }), { max_completion_tokens: 1 }, { maxRetries: 0 }),
  'api.openai.com',
);
