//! The fast agent run inside an account: see [`crate::client`].

use std::{io::Write, marker::PhantomData};

use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use super::{Agent, Running, binary};
use crate::client::{Plan, connects, load, soak};

/// A client under way, and what it will print.
pub struct Client<T> {
    running: Running,
    _plan: NamedTempFile,
    seen: PhantomData<T>,
}

impl Agent<'_> {
    pub fn load(&self, load: load::Load) -> Client<load::Tally> {
        Client::start(self, &[], &Plan::Load(load))
    }

    /// As [`Self::load`], started by a command that takes the client's command line as its last words.
    pub fn load_by(&self, starter: &[String], load: load::Load) -> Client<load::Tally> {
        Client::start(self, starter, &Plan::Load(load))
    }

    pub fn connects(&self, connects: connects::Connects) -> Client<connects::Ended> {
        Client::start(self, &[], &Plan::Connects(connects))
    }

    pub fn soak(&self, soak: soak::Soak) -> Client<soak::Fates> {
        Client::start(self, &[], &Plan::Soak(soak))
    }
}

impl<T: DeserializeOwned> Client<T> {
    fn start(agent: &Agent<'_>, starter: &[String], plan: &Plan) -> Self {
        let mut file = NamedTempFile::new().expect("a file for the plan");
        serde_json::to_writer(&mut file, plan).expect("plain fields");
        file.flush().expect("room for the plan");
        let (client, path) = (binary("client").display().to_string(), file.path().display().to_string());
        let words: Vec<&str> = starter.iter().map(String::as_str).chain([client.as_str(), path.as_str()]).collect();
        let running = agent.spawn(&words);
        Self { running, _plan: file, seen: PhantomData }
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it saw; it must have come to its end.
    #[track_caller]
    pub fn wait(self) -> T {
        let outcome = self.running.wait();
        outcome.expect_code(0);
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error} in {outcome:#?}"))
    }
}
