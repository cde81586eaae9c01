//! Whether an agent has left whose message is kept back: it is read no further than it takes to see that.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::pump::BUFFER;
use crate::usage::websocket::{Decoder, Event};

/// How an agent has left.
pub(super) enum Left {
    /// Without a word.
    Gone,
    /// With a close frame.
    Said,
}

/// Reads ahead until the agent has left: without a word, or with a close frame behind `rest`. One that goes on talking
/// is read no further.
pub(super) async fn left(from: &mut (impl AsyncRead + Unpin), rest: &[u8], ahead: &mut Vec<u8>) -> Left {
    let mut decoder = Decoder::default();
    if says_close(&mut decoder, rest) || says_close(&mut decoder, ahead) {
        return Left::Said;
    }
    while ahead.len() < BUFFER {
        let seen = ahead.len();
        match from.read_buf(ahead).await {
            Ok(0) | Err(_) => return Left::Gone,
            Ok(_) if says_close(&mut decoder, &ahead[seen..]) => return Left::Said,
            Ok(_) => {}
        }
    }
    std::future::pending().await
}

fn says_close(decoder: &mut Decoder, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let (taken, event) = decoder.advance(bytes);
        if event == Some(Event::Close) {
            return true;
        }
        bytes = &bytes[taken..];
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncWriteExt, time::timeout};

    use super::*;
    use crate::usage::websocket::{close, text};

    /// What is made of an agent that says that, and what was read of it.
    async fn look(rest: &[u8], said: &[u8], stays: bool) -> (Option<Left>, usize) {
        let (mut agent, mut from) = tokio::io::duplex(4 * BUFFER);
        agent.write_all(said).await.unwrap();
        if !stays {
            agent.shutdown().await.unwrap();
        }
        let mut ahead = Vec::with_capacity(BUFFER);
        // Nothing here waits for anything but what was written before.
        let left = timeout(Duration::from_millis(50), left(&mut from, rest, &mut ahead)).await;
        (left.ok(), ahead.len())
    }

    #[tokio::test]
    async fn an_agent_that_leaves_while_it_waits_is_seen_to() {
        let goodbye = close(1000, "", Some([1, 2, 3, 4]));
        let message = text(b"more");
        assert!(matches!(look(&[], &[], false).await, (Some(Left::Gone), 0)));
        assert!(matches!(look(&[], &[message.clone(), goodbye.clone()].concat(), true).await, (Some(Left::Said), _)));
        assert!(matches!(look(&goodbye, &[], true).await, (Some(Left::Said), 0)));
        // Cut anywhere between what was read with the message that waits and what came behind it.
        for at in 0..goodbye.len() {
            assert!(matches!(look(&goodbye[..at], &goodbye[at..], true).await, (Some(Left::Said), _)), "{at}");
        }
    }

    #[tokio::test]
    async fn no_more_than_a_buffer_is_read_of_one_that_talks_on() {
        let (left, read) = look(&[], &text(&vec![b'x'; 3 * BUFFER]), true).await;
        assert!(left.is_none() && read == BUFFER, "{read}");
        let (left, read) = look(&[], &text(b"a few words"), true).await;
        assert!(left.is_none() && read > 0, "{read}");
    }
}
