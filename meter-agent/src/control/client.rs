//! The command line's side of the control socket: blocking, one request after the other.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::wire::{ANSWER_BYTES_MAX, Answer, Call, Fault, Request, line};

/// A daemon that takes longer than this to answer is as good as none.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no meter daemon is running; `meter run` starts one, or start it with `sudo meter daemon`")]
    NoDaemon,
    #[error(
        "{0} is not open to you; add yourself to the group meter (`sudo groupadd -f meter && sudo usermod -aG meter $USER`, then log in again and restart the daemon), or use sudo"
    )]
    NotOpen(PathBuf),
    /// The daemon went away in the middle.
    #[error("the meter daemon did not answer ({0}); look at its log, then ask again")]
    Broken(#[source] io::Error),
    #[error("{}", .0.message)]
    Refused(Fault),
    #[error("the meter daemon gave an answer to another question; use the same version of meter for both")]
    Mismatch,
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let connected = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER_WAIT))?;
            stream.set_write_timeout(Some(ANSWER_WAIT))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self { stream: BufReader::new(stream) }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Err(ClientError::NoDaemon)
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::NotOpen(socket.to_owned()))
            }
            Err(error) => Err(ClientError::Broken(error)),
        }
    }

    /// Sends one request and waits for its answer; a fault is an error.
    pub fn ask(&mut self, request: Request) -> Result<Answer, ClientError> {
        match self.exchange(request).map_err(ClientError::Broken)? {
            Answer::Error(fault) => Err(ClientError::Refused(fault)),
            answer @ (Answer::Pong(_)
            | Answer::Opened(_)
            | Answer::Status { .. }
            | Answer::Balance { .. }
            | Answer::Funded { .. }
            | Answer::Shut { .. }
            | Answer::Extended { .. }
            | Answer::Closed { .. }
            | Answer::Events { .. }
            | Answer::Report { .. }
            | Answer::Flushed
            | Answer::Rows { .. }
            | Answer::Summary(_)
            | Answer::Reloaded
            | Answer::ConfigDiff(_)
            | Answer::ConfigState(_)
            | Answer::InForce { .. }
            | Answer::Price { .. }) => Ok(answer),
        }
    }

    fn exchange(&mut self, request: Request) -> io::Result<Answer> {
        self.stream.get_mut().write_all(&line(&Call::new(request)))?;
        let mut answer = Vec::new();
        self.stream.by_ref().take(ANSWER_BYTES_MAX).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_and_a_dead_one_mean_no_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meter.sock");
        assert!(matches!(Client::connect(&path), Err(ClientError::NoDaemon)));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(Client::connect(&path), Err(ClientError::NoDaemon)));
    }
}
