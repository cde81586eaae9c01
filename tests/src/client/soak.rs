//! Exchanges that go wrong in every way an agent, a provider and a network have, one after the other on some workers.
//!
//! What happens to an exchange follows from the seed and its number alone, so that a run can be repeated.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::leg::{self, Leg, Post};
use crate::{harness::chat::Chat, simulator::directive::Directive};

/// A host whose name leads to an address where nothing listens.
pub const UNREACHABLE: &str = "closed.example";
/// A host whose certificate is for other names.
pub const UNTRUSTED: &str = "untrusted.example";
/// An answer that takes longer is a hang, and a mistake of the meter's.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Until an impatient agent gives up.
const PATIENCE: Duration = Duration::from_millis(40);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Soak {
    pub seed: u64,
    pub exchanges: u64,
    pub workers: usize,
    /// The first of the exchanges' numbers.
    pub first: u64,
}

/// How many exchanges had which fate, and what the agent saw of each.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Fates {
    /// By fate and what was seen: a status, `broken`, `left`, or what went wrong.
    pub seen: BTreeMap<String, BTreeMap<String, u64>>,
    pub elapsed_ms: u64,
}

/// What is to become of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Whole,
    Stream,
    ProviderError,
    ProviderOverload,
    ProviderGoneBeforeHead,
    ProviderResetBeforeHead,
    ProviderGoneAfterHead,
    StreamCut,
    StreamReset,
    AgentGoneBeforeHead,
    AgentGoneMidStream,
    ProviderHangs,
    AgentGoneMidRequest,
    AgentSaysNothing,
    Unreachable,
    Untrusted,
}

/// Each with its share of all: the ordinary ones come often, the slow ones seldom.
const FATES: [(Fate, u64); 16] = [
    (Fate::Whole, 24),
    (Fate::Stream, 24),
    (Fate::ProviderError, 8),
    (Fate::ProviderOverload, 8),
    (Fate::ProviderGoneBeforeHead, 6),
    (Fate::ProviderResetBeforeHead, 6),
    (Fate::ProviderGoneAfterHead, 6),
    (Fate::StreamCut, 8),
    (Fate::StreamReset, 6),
    (Fate::AgentGoneBeforeHead, 6),
    (Fate::AgentGoneMidStream, 6),
    (Fate::ProviderHangs, 4),
    (Fate::AgentGoneMidRequest, 6),
    (Fate::AgentSaysNothing, 4),
    (Fate::Unreachable, 4),
    (Fate::Untrusted, 2),
];

/// Numbers that follow from a seed (SplitMix64, Steele, Lea and Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64, number: u64) -> Self {
        let mut random = Self(seed ^ number.wrapping_mul(0xa076_1d64_78bd_642f));
        random.below(u64::MAX);
        random
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn fate(&mut self) -> Fate {
        let mut at = self.below(FATES.iter().map(|(_, share)| share).sum());
        for (fate, share) in FATES {
            if at < share {
                return fate;
            }
            at -= share;
        }
        Fate::Whole
    }
}

pub(super) async fn run(soak: Soak) -> anyhow::Result<Fates> {
    let started = Instant::now();
    let (next, end) = (Rc::new(Cell::new(soak.first)), soak.first + soak.exchanges);
    let workers: Vec<_> = (0..soak.workers)
        .map(|worker| {
            // Half of them speak HTTP/2.
            let worker = Worker { http2: worker % 2 == 1, leg: None, seed: soak.seed };
            tokio::task::spawn_local(worker.run(Rc::clone(&next), end))
        })
        .collect();
    let mut fates = Fates::default();
    for worker in workers {
        for (fate, seen) in worker.await? {
            let counts = fates.seen.entry(fate).or_default();
            for (what, count) in seen {
                *counts.entry(what).or_default() += count;
            }
        }
    }
    fates.elapsed_ms = u64::try_from(started.elapsed().as_millis())?;
    Ok(fates)
}

struct Worker {
    http2: bool,
    /// Kept from one exchange to the next while nothing goes wrong.
    leg: Option<Leg>,
    seed: u64,
}

impl Worker {
    async fn run(mut self, next: Rc<Cell<u64>>, end: u64) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut seen: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        while next.get() < end {
            let number = next.replace(next.get() + 1);
            let mut random = Random::new(self.seed, number);
            let fate = random.fate();
            let what = match tokio::time::timeout(ANSWER_MAX, self.exchange(fate, &mut random)).await {
                Ok(Ok(what)) => what,
                Ok(Err(error)) => {
                    self.leg = None;
                    // The sentences of libraries differ; that there was no whole answer is the fact.
                    format!("broken ({})", error.root_cause().to_string().chars().take(40).collect::<String>())
                }
                Err(_) => {
                    self.leg = None;
                    "hung".to_owned()
                }
            };
            *seen.entry(format!("{fate:?}")).or_default().entry(what).or_default() += 1;
        }
        seen
    }

    async fn exchange(&mut self, fate: Fate, random: &mut Random) -> anyhow::Result<String> {
        let post = Post::chat(chat(fate, random).body());
        match fate {
            Fate::Whole
            | Fate::Stream
            | Fate::ProviderError
            | Fate::ProviderOverload
            | Fate::ProviderGoneBeforeHead
            | Fate::ProviderResetBeforeHead
            | Fate::ProviderGoneAfterHead
            | Fate::StreamCut
            | Fate::StreamReset => Ok(self.leg().await?.ask(&post).await?.0.to_string()),
            Fate::AgentGoneBeforeHead | Fate::ProviderHangs => {
                let patience = if fate == Fate::ProviderHangs { PATIENCE } else { PATIENCE / 4 };
                let asked = tokio::time::timeout(patience, self.leg().await?.ask(&post)).await;
                self.leg = None;
                Ok(asked.map_or_else(|_| Ok("left".to_owned()), |seen| seen.map(|(status, _)| status.to_string()))?)
            }
            Fate::AgentGoneMidStream => {
                let response = self.leg().await?.send(&post).await?;
                let mut body = response.into_body();
                let _ = body.frame().await;
                drop(body);
                self.leg = None;
                Ok("left".to_owned())
            }
            Fate::AgentGoneMidRequest => half_a_request(&post).await,
            Fate::AgentSaysNothing => {
                let tcp = tokio::net::TcpStream::connect((post.host.as_str(), 443)).await?;
                if random.below(2) == 0 {
                    // Not TLS, nor any HTTP.
                    let _ = tcp.try_write(b"\x16\x03\x01\x00");
                }
                Ok("left".to_owned())
            }
            Fate::Unreachable | Fate::Untrusted => {
                let host = if fate == Fate::Unreachable { UNREACHABLE } else { UNTRUSTED };
                let post = Post { host: host.to_owned(), ..post };
                Ok(Leg::open(host, self.http2).await?.ask(&post).await?.0.to_string())
            }
        }
    }

    async fn leg(&mut self) -> anyhow::Result<&mut Leg> {
        if self.leg.as_ref().is_none_or(|leg| !leg.is_open()) {
            self.leg = Some(Leg::open("api.openai.com", self.http2).await?);
        }
        Ok(self.leg.as_mut().expect("made above"))
    }
}

/// The head and half of the body, then nothing.
async fn half_a_request(post: &Post) -> anyhow::Result<String> {
    let mut stream = leg::tls(&post.host, false).await?;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        post.path,
        post.host,
        post.body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&post.body.as_bytes()[..post.body.len() / 2]).await?;
    stream.flush().await?;
    Ok("left".to_owned())
}

fn chat(fate: Fate, random: &mut Random) -> Chat {
    let chunks = 4 + random.below(4);
    let cut = 1 + random.below(chunks);
    let chat = Chat::ordinary().with(|directive| {
        directive.input = Some(20 + random.below(20));
        directive.output = Some(1 + random.below(20));
        directive.chunks = usize::try_from(chunks).ok();
        spoil(fate, usize::try_from(cut).ok(), directive);
    });
    let streams = match fate {
        Fate::Stream | Fate::StreamCut | Fate::StreamReset | Fate::AgentGoneMidStream => true,
        Fate::ProviderHangs | Fate::ProviderGoneAfterHead => random.below(2) == 0,
        _ => false,
    };
    let chat = chat.ceiling(Some(20));
    if streams { chat.stream() } else { chat }
}

/// Tells the provider to do its part of it.
fn spoil(fate: Fate, cut: Option<usize>, directive: &mut Directive) {
    match fate {
        Fate::ProviderError => directive.status = Some(400),
        Fate::ProviderOverload => directive.status = Some(503),
        Fate::ProviderGoneBeforeHead => directive.cut_head = true,
        Fate::ProviderResetBeforeHead => (directive.cut_head, directive.reset) = (true, true),
        Fate::ProviderGoneAfterHead => directive.cut_after = Some(0),
        Fate::StreamCut => directive.cut_after = cut,
        Fate::StreamReset => (directive.cut_after, directive.reset) = (cut, true),
        Fate::AgentGoneBeforeHead => directive.ttfb_ms = 60,
        Fate::AgentGoneMidStream => directive.delay_ms = 20,
        Fate::ProviderHangs => directive.hang = true,
        Fate::Whole
        | Fate::Stream
        | Fate::AgentGoneMidRequest
        | Fate::AgentSaysNothing
        | Fate::Unreachable
        | Fate::Untrusted => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fate_comes_and_a_seed_repeats_itself() {
        let fates: Vec<_> = (0..1_000).map(|number| Random::new(7, number).fate()).collect();
        assert!(FATES.iter().all(|(fate, _)| fates.contains(fate)));
        assert_eq!(fates, (0..1_000).map(|number| Random::new(7, number).fate()).collect::<Vec<_>>());
        assert_ne!(fates, (0..1_000).map(|number| Random::new(8, number).fate()).collect::<Vec<_>>());
    }
}
