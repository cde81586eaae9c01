// What each SDK does when it is refused: one plain and one streamed call, with the SDK's own retries, and how it failed.

import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { prompt, say, timed } from './agent.mjs';

const text = prompt({ input: 300, output: 200 });
const messages = [{ role: 'user', content: text }];
const MESSAGE = 'claude-haiku-4-5-20251001';

const SDKS = {
  openai: (stream) =>
    new OpenAI().chat.completions.create({ model: 'gpt-4o', messages, max_completion_tokens: 200, stream }),
  responses: (stream) =>
    new OpenAI().responses.create({ model: 'gpt-4o', input: text, max_output_tokens: 200, stream }),
  anthropic: (stream) => new Anthropic().messages.create({ model: MESSAGE, messages, max_tokens: 200, stream }),
};

for (const [sdk, ask] of Object.entries(SDKS)) {
  for (const stream of [false, true]) {
    const failed = await timed(async () => {
      const answer = await ask(stream);
      if (stream) for await (const _ of answer);
    });
    say(sdk, { stream, ...failed });
  }
}
