//! Both directions of a WebSocket, copied as they come and read as they pass.
//!
//! A frame of the meter's own is only ever put between two messages of the other side; where a direction stands in the
//! middle of one, it is closed without.
//!
//! The message that may begin a turn is kept back until the turn is held; the other direction goes on meanwhile. Of what
//! the agent says behind it no more than a buffer is read. The wait ends with the socket, whatever ends that.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::timeout,
};

use super::{
    leaving::{Left, left},
    refusal::{Closing, GOING_AWAY},
    turns::Turns,
};
use crate::{
    cashier::{Asked, CashierError, DurableWait},
    clock,
    exchange::End,
    usage::{
        Problem,
        websocket::{Decoder, Event, close},
    },
};

/// As much as is read at one time, and ahead of a message that is kept back.
pub(super) const BUFFER: usize = 32 * 1024;
/// How long the other side has to end after one has.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long a turn that is under way goes on when the connection is told to end.
const LAST_TURN_MAX: Duration = Duration::from_secs(10);

/// How a direction ended.
enum Ended {
    /// What it read from is at its end.
    Agent,
    Provider(String),
    /// The agent has said that it leaves, while what it said before was kept back.
    Left,
    /// The meter ends the socket.
    Closing(Closing),
    /// Its account was shut: whatever is under way is cut.
    Cut(Closing),
}

/// One direction.
struct Way<S> {
    from: ReadHalf<S>,
    to: WriteHalf<S>,
    decoder: Decoder,
    /// What was written ends with a message.
    between_messages: bool,
}

pub(super) async fn run<S>(
    agent: S,
    provider: S,
    turns: Turns,
    told_to_end: impl Future<Output = ()>,
    cut: impl Future<Output = Arc<Problem>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let turns = Mutex::new(turns);
    let ((agent_in, agent_out), (provider_in, provider_out)) = (split(agent), split(provider));
    let mut up = Way::new(agent_in, provider_out);
    let mut down = Way::new(provider_in, agent_out);
    let ended = {
        let mut both = std::pin::pin!(async {
            tokio::select! {
                ended = up.upwards(&turns) => ended,
                ended = down.downwards(&turns) => ended,
            }
        });
        let ended = async {
            tokio::select! {
                ended = &mut both => ended,
                () = told_to_end => last_turn(&turns, both).await,
            }
        };
        tokio::select! {
            biased;
            problem = cut => Ended::Cut(Closing::cut(problem.text())),
            ended = ended => ended,
        }
    };
    let end = match &ended {
        Ended::Agent | Ended::Left => End::AgentGone,
        Ended::Provider(why) => End::ProviderCut(why.clone()),
        Ended::Closing(closing) => End::ProviderCut(closing.sentence.clone()),
        Ended::Cut(closing) => End::Cut { status: None, why: closing.sentence.clone() },
    };
    match ended {
        // What the provider still says to the turn is read and passed on.
        Ended::Agent => {
            let _ = up.to.shutdown().await;
            let _ = timeout(CLOSE_WAIT, down.downwards(&turns)).await;
            let _ = timeout(CLOSE_WAIT, down.to.shutdown()).await;
        }
        Ended::Provider(_) => {
            let _ = timeout(CLOSE_WAIT, down.to.shutdown()).await;
            let _ = timeout(CLOSE_WAIT, up.from.read(&mut [0])).await;
        }
        Ended::Left => say_both(&mut down, &mut up, &Closing::echo()).await,
        Ended::Closing(closing) => {
            say_both(&mut down, &mut up, &closing).await;
            let _ = timeout(CLOSE_WAIT, up.drain()).await;
        }
        Ended::Cut(closing) => {
            // What the agent says now does not arrive any more, its answer to the close frame among it.
            turns.lock().close(&end);
            say_both(&mut down, &mut up, &closing).await;
        }
    }
    turns.into_inner().close(&end);
}

/// Ends both directions with the meter's own words.
async fn say_both<S: AsyncRead + AsyncWrite>(down: &mut Way<S>, up: &mut Way<S>, closing: &Closing) {
    let (refused, away) = (closing.frames(), close(GOING_AWAY, "", Some(mask())));
    let _ = timeout(CLOSE_WAIT, async { tokio::join!(down.say(&refused), up.say(&away)) }).await;
}

/// Lets a turn that is under way come to its end.
async fn last_turn(turns: &Mutex<Turns>, both: impl Future<Output = Ended>) -> Ended {
    let at_once = turns.lock().stop();
    if let Some(closing) = at_once {
        return Ended::Closing(closing);
    }
    timeout(LAST_TURN_MAX, both).await.unwrap_or_else(|_| Ended::Closing(Closing::late()))
}

impl<S: AsyncRead + AsyncWrite> Way<S> {
    fn new(from: ReadHalf<S>, to: WriteHalf<S>) -> Self {
        Self { from, to, decoder: Decoder::default(), between_messages: true }
    }

    /// From the agent to the provider: a message is paid for before its last byte leaves.
    async fn upwards(&mut self, turns: &Mutex<Turns>) -> Ended {
        let (mut buffer, mut ahead) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
        loop {
            if buffer.is_empty() && matches!(self.from.read_buf(&mut buffer).await, Ok(0) | Err(_)) {
                return Ended::Agent;
            }
            if let Err(ended) = self.up(&buffer, &mut ahead, turns).await {
                return ended;
            }
            buffer.clear();
            std::mem::swap(&mut buffer, &mut ahead);
        }
    }

    /// Passes bytes on. What comes while a message among them is kept back is put `ahead`.
    async fn up(&mut self, bytes: &[u8], ahead: &mut Vec<u8>, turns: &Mutex<Turns>) -> Result<(), Ended> {
        let lost = |error: std::io::Error| Ended::Provider(error.to_string());
        let (mut passed, mut at) = (0, 0);
        while at < bytes.len() {
            let (before, between_messages) = (at, self.decoder.is_between_messages());
            let (taken, event) = self.decoder.advance(&bytes[at..]);
            at += taken;
            let Some(event) = event else { continue };
            let asked = turns.lock().sent(event).map_err(Ended::Closing)?;
            if let Some(asked) = asked {
                // What was said before it goes before it.
                self.pass(&bytes[passed..before], between_messages).await.map_err(lost)?;
                passed = before;
                self.wait(*asked, &bytes[at..], ahead, turns).await?;
            }
        }
        // The decoder has seen exactly what was written then.
        self.pass(&bytes[passed..], self.decoder.is_between_messages()).await.map_err(lost)
    }

    /// Waits for a turn's hold. Of what the agent says meanwhile no more than a buffer is read: to see it leave.
    async fn wait(
        &mut self,
        asked: Asked,
        rest: &[u8],
        ahead: &mut Vec<u8>,
        turns: &Mutex<Turns>,
    ) -> Result<(), Ended> {
        let cashier = turns.lock().cashier();
        let admitted = tokio::select! {
            biased;
            admitted = cashier.admit(asked, clock::now()) => admitted,
            left = left(&mut self.from, rest, ahead) => return Err(match left {
                Left::Gone => Ended::Agent,
                Left::Said => Ended::Left,
            }),
        };
        let wait = turns.lock().admitted(admitted).map_err(Ended::Closing)?;
        durable(wait, turns).await
    }

    /// From the provider to the agent: what comes after a turn's hold waits for that to be durable.
    async fn downwards(&mut self, turns: &Mutex<Turns>) -> Ended {
        let mut buffer = vec![0; BUFFER];
        let mut closed = false;
        loop {
            let count = match self.from.read(&mut buffer).await {
                Ok(0) if closed => return Ended::Provider("the provider closed the socket".to_owned()),
                Ok(0) => {
                    return Ended::Provider("the provider ended the connection without closing the socket".to_owned());
                }
                Err(error) => return Ended::Provider(error.to_string()),
                Ok(count) => count,
            };
            let mut at = 0;
            let mut end = None;
            while at < count && end.is_none() {
                let (taken, event) = self.decoder.advance(&buffer[at..count]);
                at += taken;
                let Some(event) = event else { continue };
                closed |= event == Event::Close;
                end = turns.lock().received(event).err().map(Ended::Closing);
            }
            let wait = turns.lock().durable();
            if let Err(ended) = durable(wait, turns).await {
                return ended;
            }
            if self.pass(&buffer[..at], self.decoder.is_between_messages()).await.is_err() {
                return Ended::Agent;
            }
            if let Some(ended) = end {
                return ended;
            }
        }
    }

    /// Writes; `between_messages`: what was written until then ends with a message.
    async fn pass(&mut self, bytes: &[u8], between_messages: bool) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.between_messages = false;
        self.to.write_all(bytes).await?;
        self.to.flush().await?;
        self.between_messages = between_messages;
        Ok(())
    }

    /// The meter's own last frames, and the end.
    async fn say(&mut self, frames: &[u8]) {
        if self.between_messages {
            let _ = self.to.write_all(frames).await;
        }
        let _ = self.to.shutdown().await;
    }

    /// Reads to the end, so that what was said last is not taken back by a reset.
    async fn drain(&mut self) {
        let mut rest = vec![0; BUFFER];
        while let Ok(1..) = self.from.read(&mut rest).await {}
    }
}

/// Waits until the row of a hold is durable.
async fn durable(wait: Option<DurableWait>, turns: &Mutex<Turns>) -> Result<(), Ended> {
    let Some(wait) = wait else { return Ok(()) };
    let fault = |error: CashierError| turns.lock().ledger_fault(&error.to_string());
    wait.wait().await.map_err(|error| Ended::Closing(fault(error)))
}

/// A client's frames have a mask that a server can't guess (RFC 6455, section 10.3).
fn mask() -> [u8; 4] {
    let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
    [a, b, c, d]
}
