//! The provider simulator as a process in the provider's namespace, and its log.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use super::{Net, binary};
use crate::simulator::{
    Config,
    log::{Connection, Entry, Exchange, Question},
};

/// A running simulator.
pub struct Simulator {
    child: Child,
    folder: TempDir,
}

impl Simulator {
    /// Starts one at the namespace's addresses (the config's own paths and empty addresses are filled in), and
    /// returns when it listens.
    pub fn start(net: &Net, mut config: Config) -> Self {
        let folder = TempDir::new().expect("a folder for the simulator");
        config.ca_file = folder.path().join("ca.pem");
        config.log_file = folder.path().join("log.jsonl");
        if config.addresses.is_empty() {
            config.addresses = net.addresses();
        }
        let path = folder.path().join("config.json");
        fs::write(&path, serde_json::to_vec(&config).expect("plain fields")).expect("a file for the simulator");
        let mut command = Command::new(binary("simulator"));
        command.arg(path).stdout(Stdio::piped());
        let namespace = net.namespace();
        // SAFETY: between fork and exec only one system call is made, on a descriptor that outlives the spawn.
        unsafe {
            command
                .pre_exec(move || Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?));
        }
        let mut child = command.spawn().expect("the simulator can be started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped above")).read_line(&mut line).expect("a line of text");
        assert_eq!(line, "ready\n", "the simulator did not start; its error stands above");
        Self { child, folder }
    }

    /// The test CA.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that was logged so far.
    pub fn entries(&self) -> Vec<Entry> {
        let text = fs::read_to_string(self.folder.path().join("log.jsonl")).expect("the simulator made its log");
        // A line without its end is still being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect()
    }

    /// Exchanges that ended so far, in the order in which they began.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let pick = |entry| if let Entry::Exchange(exchange) = entry { Some(*exchange) } else { None };
        let mut exchanges: Vec<Exchange> = self.entries().into_iter().filter_map(pick).collect();
        // Ids count upwards, as long as they have the same length.
        exchanges.sort_by(|a, b| a.request_id.cmp(&b.request_id));
        exchanges
    }

    pub fn connections(&self) -> Vec<Connection> {
        let pick = |entry| if let Entry::Connection(connection) = entry { Some(connection) } else { None };
        self.entries().into_iter().filter_map(pick).collect()
    }

    pub fn questions(&self) -> Vec<Question> {
        let pick = |entry| if let Entry::Question(question) = entry { Some(question) } else { None };
        self.entries().into_iter().filter_map(pick).collect()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
