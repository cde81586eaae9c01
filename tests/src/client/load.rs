//! Many requests at the same time: all connections first, then every request at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::leg::{Leg, Post};

/// So many requests over so many connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    pub http2: bool,
    pub connections: usize,
    pub requests: usize,
    /// Sent in turn.
    pub posts: Vec<Post>,
    /// Sent for so long instead of so often; one after the other on each connection.
    pub seconds: Option<u64>,
}

/// What came back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Whole answers, by status.
    pub statuses: BTreeMap<u16, usize>,
    /// Requests without a whole answer, by what went wrong.
    pub failures: BTreeMap<String, usize>,
    /// Connections that were not made, by what went wrong.
    pub unconnected: BTreeMap<String, usize>,
    pub elapsed_ms: u64,
}

impl Tally {
    pub fn of(&self, status: u16) -> usize {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Every request that was sent, answered or not.
    pub fn sent(&self) -> usize {
        self.statuses.values().sum::<usize>() + self.failures.values().sum::<usize>()
    }

    fn note(&mut self, outcome: anyhow::Result<u16>) {
        match outcome {
            Ok(status) => *self.statuses.entry(status).or_default() += 1,
            Err(error) => *self.failures.entry(format!("{error:#}")).or_default() += 1,
        }
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
    }
}

pub(super) async fn run(load: Load) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut legs = Vec::new();
    let opening: Vec<_> = (0..load.connections)
        .map(|number| {
            let host = load.posts[number % load.posts.len()].host.clone();
            tokio::task::spawn_local(async move { Leg::open(&host, load.http2).await })
        })
        .collect();
    for leg in opening {
        match leg.await? {
            Ok(leg) => legs.push(leg),
            Err(error) => *tally.unconnected.entry(format!("{error:#}")).or_default() += 1,
        }
    }
    let started = Instant::now();
    let working: Vec<_> = match load.seconds {
        Some(seconds) => {
            let until = started + Duration::from_secs(seconds);
            let posts = load.posts;
            legs.into_iter().map(|leg| tokio::task::spawn_local(again(leg, posts.clone(), until))).collect()
        }
        None if legs.is_empty() => Vec::new(),
        None => (0..load.requests)
            .map(|number| {
                let (leg, post) = (legs[number % legs.len()].clone(), load.posts[number % load.posts.len()].clone());
                tokio::task::spawn_local(once(leg, post))
            })
            .collect(),
    };
    for work in working {
        tally.add(work.await?);
    }
    tally.elapsed_ms = u64::try_from(started.elapsed().as_millis())?;
    Ok(tally)
}

async fn once(mut leg: Leg, post: Post) -> Tally {
    let mut tally = Tally::default();
    tally.note(within(leg.ask(&post)).await.map(|(status, _)| status));
    tally
}

/// One request after the other, until the time is over or the connection is.
async fn again(mut leg: Leg, posts: Vec<Post>, until: Instant) -> Tally {
    let mut tally = Tally::default();
    for post in posts.iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        let outcome = within(leg.ask(post)).await.map(|(status, _)| status);
        let goes_on = outcome.is_ok();
        tally.note(outcome);
        if !goes_on {
            break;
        }
    }
    tally
}

/// An answer that takes longer is a hang.
async fn within<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(Duration::from_mins(1), work).await?
}
