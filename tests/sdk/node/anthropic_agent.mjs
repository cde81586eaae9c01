// An agent on the @anthropic-ai/sdk: messages, message streams, then messages until it is refused.

import Anthropic from '@anthropic-ai/sdk';
import { prompt, say, untilTheWall } from './agent.mjs';

const client = new Anthropic();
const model = 'claude-haiku-4-5-20251001';

const message = (content, options = {}, request = {}) =>
  client.messages.create({ model, max_tokens: 1024, messages: [{ role: 'user', content }], ...options }, request);

const plain = await message(prompt({ input: 1200, cached: 200, cache_write: 100, output: 30 }));
say('plain', { text: plain.content[0].text, model: plain.model, usage: plain.usage });

const events = [];
for await (const event of await message(prompt({ input: 400, output: 60, chunks: 6 }), { stream: true })) {
  events.push(event);
}
say('stream', {
  text: events.map((e) => (e.type === 'content_block_delta' ? e.delta.text : '')).join(''),
  types: events.map((e) => e.type),
  usage: events.filter((e) => e.type === 'message_delta').map((e) => e.usage),
});

for (let number = 0; number < 3; number++) {
  const answer = await message(prompt({ input: 1000 + number, output: 100 }), { max_tokens: 400 });
  say('several', { number, usage: answer.usage });
}

await untilTheWall(
  () => message(prompt({ input: 600, output: 300 }), { max_tokens: 300 }),
  () => message(prompt({ input: 10, output: 1 }), { max_tokens: 1 }, { maxRetries: 0 }),
  'api.anthropic.com',
);
