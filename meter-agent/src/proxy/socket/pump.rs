//! Both directions of a WebSocket, copied as they come and read as they pass.
//!
//! A frame of the meter's own is only ever put between two frames of the other side; where a direction stands in the
//! middle of one, it is closed without.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    time::timeout,
};

use super::turns::{Closing, POLICY_VIOLATION, Turns};
use crate::{
    exchange::End,
    ids::ExchangeId,
    usage::{
        Problem,
        websocket::{Decoder, Event, close},
    },
};

/// As much as is read at one time.
const BUFFER: usize = 32 * 1024;
/// How long the other side has to end after one has.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How long a turn that is under way goes on when the connection is told to end.
const LAST_TURN_MAX: Duration = Duration::from_secs(10);
/// Close codes of RFC 6455, section 7.4.1.
const GOING_AWAY: u16 = 1001;

/// How a direction ended.
enum Ended {
    /// What it read from is at its end.
    Agent,
    Provider(String),
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
    /// What was written ends with a frame.
    between_frames: bool,
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
            problem = cut => Ended::Cut(Closing { code: POLICY_VIOLATION, sentence: problem.text() }),
            ended = ended => ended,
        }
    };
    let end = match &ended {
        Ended::Agent => End::AgentGone,
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
    let sentence = close(closing.code, &closing.sentence, None);
    let away = close(GOING_AWAY, "", Some(mask()));
    let _ = timeout(CLOSE_WAIT, async { tokio::join!(down.say(&sentence), up.say(&away)) }).await;
}

/// Lets a turn that is under way come to its end.
async fn last_turn(turns: &Mutex<Turns>, both: impl Future<Output = Ended>) -> Ended {
    let at_once = turns.lock().stop();
    if let Some(closing) = at_once {
        return Ended::Closing(closing);
    }
    let late = || Closing { code: GOING_AWAY, sentence: "meter: the turn took too long to end".to_owned() };
    timeout(LAST_TURN_MAX, both).await.unwrap_or_else(|_| Ended::Closing(late()))
}

impl<S: AsyncRead + AsyncWrite> Way<S> {
    fn new(from: ReadHalf<S>, to: WriteHalf<S>) -> Self {
        Self { from, to, decoder: Decoder::default(), between_frames: true }
    }

    /// From the agent to the provider: a message is paid for before its last byte leaves.
    async fn upwards(&mut self, turns: &Mutex<Turns>) -> Ended {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match self.from.read(&mut buffer).await {
                Ok(0) | Err(_) => return Ended::Agent,
                Ok(count) => count,
            };
            let mut at = 0;
            while at < count {
                let (taken, event) = self.decoder.advance(&buffer[at..count]);
                at += taken;
                if let Some(event) = event
                    && let Err(closing) = turns.lock().sent(event)
                {
                    return Ended::Closing(closing);
                }
            }
            if let Err(error) = self.pass(&buffer[..count]).await {
                return Ended::Provider(error.to_string());
            }
        }
    }

    /// From the provider to the agent: what comes after a turn's end waits for the next turn's hold.
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
            let (mut passed, mut at) = (0, 0);
            while at < count {
                let (taken, event) = self.decoder.advance(&buffer[at..count]);
                at += taken;
                let Some(event) = event else { continue };
                closed |= event == Event::Close;
                let next = turns.lock().received(event);
                if !matches!(next, Ok(None)) {
                    if self.pass(&buffer[passed..at]).await.is_err() {
                        return Ended::Agent;
                    }
                    passed = at;
                }
                let durable = match next {
                    Ok(None) => continue,
                    Ok(Some(durable)) => durable.wait().await,
                    Err(closing) => return Ended::Closing(closing),
                };
                if let Err(error) = durable {
                    return Ended::Closing(turns.lock().ledger_fault(&error.to_string()));
                }
            }
            if self.pass(&buffer[passed..count]).await.is_err() {
                return Ended::Agent;
            }
        }
    }

    async fn pass(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.between_frames = false;
        self.to.write_all(bytes).await?;
        self.to.flush().await?;
        // The decoder has seen exactly what was written.
        self.between_frames = self.decoder.is_between_frames();
        Ok(())
    }

    /// The meter's own last frame, and the end.
    async fn say(&mut self, frame: &[u8]) {
        if self.between_frames {
            let _ = self.to.write_all(frame).await;
        }
        let _ = self.to.shutdown().await;
    }

    /// Reads to the end, so that what was said last is not taken back by a reset.
    async fn drain(&mut self) {
        let mut rest = vec![0; BUFFER];
        while let Ok(1..) = self.from.read(&mut rest).await {}
    }
}

/// A client's frames have a mask that a server can't guess (RFC 6455, section 10.3); an id's last bytes are random.
fn mask() -> [u8; 4] {
    let [.., a, b, c, d] = *ExchangeId::new().0.as_bytes();
    [a, b, c, d]
}
