//! The bench's upstream: a fixed chat completion for every request, with as little work as TLS allows.
//!
//! HTTP/1.1 only. It reads just enough of a request to find its end, and logs nothing.

use bytes::BytesMut;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// Input and output tokens that every answer bills.
pub const TOKENS: (u64, u64) = (12, 9);

pub async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    let answer: &'static [u8] = answer().leak();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(stream, acceptor.clone(), answer));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, answer: &'static [u8]) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut received = BytesMut::with_capacity(8 * 1024);
    loop {
        while let Some(length) = request_length(&received) {
            let _ = received.split_to(length);
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
        if stream.flush().await.is_err() {
            return;
        }
        match stream.read_buf(&mut received).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Length of the first whole request in `bytes`.
fn request_length(bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let head = bytes.windows(END.len()).position(|window| window == END)?;
    let length = head + END.len() + content_length(&bytes[..head]);
    (length <= bytes.len()).then_some(length)
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    head.split(|byte| *byte == b'\n')
        .find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))
        .and_then(|line| std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok())
        .unwrap_or(0)
}

fn answer() -> Vec<u8> {
    let (input, output) = TOKENS;
    let body = json!({
        "id": "chatcmpl-instant",
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": "Hello! How can I help you today?", "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": input,
            "completion_tokens": output,
            "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
    })
    .to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_where_its_body_ends() {
        let request = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        for short in 0..request.len() {
            assert_eq!(request_length(&request[..short]), None, "{short}");
        }
        assert_eq!(request_length(request), Some(request.len()));
        assert_eq!(request_length(b"GET / HTTP/1.1\r\n\r\nGET"), Some(18));
    }
}
