// What the agents of this folder share: they print what they see as JSON lines, and walk on until they are refused.
//
// Nothing here or in the agents knows of a meter. Each prompt tells the simulator what to bill.

import net from 'node:net';

// Calls after which an agent that nobody stops ends by itself.
const CALLS = Number(process.env.AGENT_CALLS ?? 200);

export const say = (step, facts) => console.log(JSON.stringify({ step, ...facts }));
// A directive, with as much text around it as the input it bills would have.
export const prompt = (directive) => 'sim:' + JSON.stringify(directive) + ' and'.repeat(directive.input);

// An error as its own fields and its causes tell it.
export function failure(error) {
  const errno = [];
  const visit = (cause) => {
    if (!cause) return;
    if (typeof cause.code === 'string' && /^E[A-Z]+$/.test(cause.code)) errno.push(cause.code);
    for (const one of cause.errors ?? []) visit(one);
    visit(cause.cause);
  };
  visit(error);
  return {
    class: error.constructor.name,
    status: error.status ?? null,
    message: String(error.message),
    body: error.error ?? null,
    errno,
  };
}

// How a call that must fail failed, and after how long.
export async function timed(call) {
  const start = performance.now();
  let facts = { class: null };
  try {
    await call();
  } catch (error) {
    facts = failure(error);
  }
  return { ...facts, ms: Math.round(performance.now() - start) };
}

// A new connection, by name, with nothing but sockets.
function connect(host) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port: 443 }, () => {
      socket.destroy();
      resolve();
    });
    socket.on('error', reject);
  });
}

// Calls until it fails; then what the same client and a new connection meet.
export async function untilTheWall(call, pooled, host) {
  for (let number = 0; number < CALLS; number++) {
    const start = performance.now();
    try {
      await call();
      say('loop', { number });
    } catch (error) {
      say('wall', { number, ms: Math.round(performance.now() - start), ...failure(error) });
      say('pooled', await timed(pooled));
      say('fresh', await timed(() => connect(host)));
      return;
    }
  }
  say('no wall', { calls: CALLS });
}
