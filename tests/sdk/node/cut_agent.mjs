// One stream that is ended half-way: `cut_agent.mjs API DIRECTIVE`. Prints what was thrown, and what came before.

import { failure, prompt, say } from './agent.mjs';

const CEILING = 200;
const user = (content) => [{ role: 'user', content }];

const apis = {
  async chat(text) {
    const { default: OpenAI } = await import('openai');
    const request = { model: 'gpt-4o', messages: user(text), stream: true, max_completion_tokens: CEILING };
    return new OpenAI().chat.completions.create(request);
  },
  async responses(text) {
    const { default: OpenAI } = await import('openai');
    return new OpenAI().responses.create({ model: 'gpt-4o', input: text, stream: true, max_output_tokens: CEILING });
  },
  async messages(text) {
    const { default: Anthropic } = await import('@anthropic-ai/sdk');
    const request = { model: 'claude-haiku-4-5-20251001', max_tokens: CEILING, messages: user(text), stream: true };
    return new Anthropic().messages.create(request);
  },
};

const [api, directive] = process.argv.slice(2);
let events = 0;
try {
  for await (const _ of await apis[api](prompt(JSON.parse(directive)))) {
    if (events === 0) say('first', {});
    events += 1;
  }
  say('complete', { events });
} catch (error) {
  say('raised', { events, ...failure(error) });
}
