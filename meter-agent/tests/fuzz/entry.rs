//! The entry points that are fuzzed: everything that reads bytes from outside. They may do anything with them but
//! panic or take memory out of proportion.
//!
//! Shared by the deterministic fuzzer beside this file and by the `cargo-fuzz` targets in `fuzz/`.

use std::path::Path;

use bytes::Bytes;
use meter_agent::{
    clock::Timestamp,
    coding::Decoder,
    config::Config,
    money::Pico,
    pricing::{Imported, PriceFile, Prices, Seller, Settings},
    replay::{Setting, replay},
    usage::{
        AnswerHead, Billing, BodyEnd, Call, RequestFacts, Rewrite, detect, dialect,
        hosts::HostTable,
        providers::PROVIDERS,
        strip::UsageStripper,
        websocket::{Decoder as Frames, Event},
        x402,
    },
};

/// A call whose request and answer are read: dialect, method, path, the answer's content type.
pub(crate) type CallRow = (&'static str, &'static str, &'static str, &'static str);

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";
const NDJSON: &str = "application/x-ndjson";
const AWS: &str = "application/vnd.amazon.eventstream";

/// One call for every decoder and every endpoint that has one of its own. New ones go to the end: the numbers are in
/// the seeds.
pub(crate) const CALLS: &[CallRow] = &[
    ("openai", "POST", "/v1/chat/completions", JSON),
    ("openai", "POST", "/v1/chat/completions", SSE),
    ("openai", "POST", "/v1/completions", JSON),
    ("openai", "POST", "/v1/completions", SSE),
    ("openai", "POST", "/v1/responses", JSON),
    ("openai", "POST", "/v1/responses", SSE),
    ("openai", "POST", "/v1/responses/compact", JSON),
    ("openai", "GET", "/v1/responses/resp_1", JSON),
    ("openai", "POST", "/v1/embeddings", JSON),
    ("openai", "POST", "/v1/images/generations", JSON),
    ("openai", "POST", "/v1/images/edits", SSE),
    ("openai", "POST", "/v1/audio/speech", "audio/mpeg"),
    ("openai", "POST", "/v1/audio/transcriptions", JSON),
    ("openai", "POST", "/v1/audio/transcriptions", SSE),
    ("openai", "POST", "/v1/threads/runs", SSE),
    ("openai", "GET", "/v1/threads/t/runs/r", JSON),
    ("openai", "POST", "/v1/batches", JSON),
    ("openai", "GET", "/v1/files/f/content", NDJSON),
    ("openai", "POST", "/v1/rerank", JSON),
    ("anthropic", "POST", "/v1/messages", JSON),
    ("anthropic", "POST", "/v1/messages", SSE),
    ("anthropic", "POST", "/v1/complete", SSE),
    ("anthropic", "GET", "/v1/messages/batches/b/results", NDJSON),
    ("gemini", "POST", "/v1beta/models/m:generateContent", JSON),
    ("gemini", "POST", "/v1beta/models/m:streamGenerateContent?alt=sse", SSE),
    ("gemini", "POST", "/v1beta/models/m:streamGenerateContent", JSON),
    ("gemini", "POST", "/v1beta/models/m:embedContent", JSON),
    ("gemini", "POST", "/v1beta/models/m:batchEmbedContents", JSON),
    ("gemini", "POST", "/v1beta/interactions", JSON),
    ("gemini", "POST", "/v1beta/interactions", SSE),
    ("gemini", "POST", "/v1/projects/p/locations/l/publishers/google/models/m:predict", JSON),
    ("gemini", "POST", "/v1/projects/p/locations/l/publishers/anthropic/models/m:streamRawPredict", SSE),
    ("bedrock", "POST", "/model/m/converse", JSON),
    ("bedrock", "POST", "/model/m/converse-stream", AWS),
    ("bedrock", "POST", "/model/m/invoke", JSON),
    ("bedrock", "POST", "/model/m/invoke-with-response-stream", AWS),
    ("bedrock", "POST", "/agents/a/agentAliases/b/sessions/c/text", AWS),
    ("cohere", "POST", "/v2/chat", JSON),
    ("cohere", "POST", "/v2/chat", SSE),
    ("cohere", "POST", "/v1/chat", NDJSON),
    ("cohere", "POST", "/v2/embed", JSON),
    ("cohere", "POST", "/v2/rerank", JSON),
    ("ollama", "POST", "/api/chat", NDJSON),
    ("ollama", "POST", "/api/generate", NDJSON),
    ("ollama", "POST", "/api/embed", JSON),
    ("xai", "POST", "/xai_api.Chat/GetCompletion", "application/grpc"),
    ("xai", "POST", "/xai_api.Chat/GetCompletionChunk", "application/grpc"),
    ("others", "POST", "/ml/v1/text/chat", JSON),
    ("others", "POST", "/ml/v1/text/chat_stream", SSE),
    ("others", "POST", "/v1/predictions", JSON),
    ("openai", "POST", "/search", JSON),
];

/// WebSockets: dialect and path.
const SOCKETS: &[(&str, &str)] = &[
    ("openai", "/v1/realtime?model=m"),
    ("openai", "/v1/responses"),
    ("xai", "/v1/realtime"),
    ("gemini", "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"),
];

/// The name of an entry point, and what it does with its input.
type Target = (&'static str, fn(&[u8]));

/// The entry points by name; the `cargo-fuzz` targets have the same names.
pub(crate) const TARGETS: &[Target] = &[
    ("answer", answer),
    ("request", request),
    ("socket", socket),
    ("strip", strip),
    ("coding", coding),
    ("har", har),
    ("head", head),
    ("websocket", websocket_frames),
    ("x402", payment),
    ("prices", prices),
    ("config", config),
];

/// When an exchange is taken to have been made that does not say it.
const NOW: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

/// Runs the entry point of that name.
pub(crate) fn run(target: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    found.expect("the target is in the list").1(data);
}

/// An answer through its dialect's reader. The first byte selects the call, the second how the body comes and ends,
/// and the rest, up to a zero byte if there is one in a textual request, is the request; then the answer.
fn answer(data: &[u8]) {
    let [which, how, rest @ ..] = data else { return };
    let (name, method, path, kind) = CALLS[usize::from(*which) % CALLS.len()];
    let (dialect, endpoint) = detect(dialect(name), method, path.split('?').next().unwrap_or(""));
    // A provider's quirks change how its answers are read.
    let quirks = PROVIDERS[usize::from(*how) % PROVIDERS.len()].quirks;
    let call = Call { endpoint, path_and_query: path, content_type: JSON, quirks };
    let (asked, body) = split(rest);
    let facts = dialect.request(&call, &Bytes::copy_from_slice(asked)).unwrap_or_default();
    let unknown = RequestFacts { choices: 1, ..RequestFacts::default() };
    for (facts, end) in [(&facts, BodyEnd::Complete), (&unknown, BodyEnd::Cut)] {
        let mut reader = dialect.reader(&call, facts, AnswerHead::new(200, kind));
        for chunk in body.chunks(usize::from(*how).max(1) * 7) {
            reader.feed(chunk);
        }
        let _ = reader.so_far();
        let _ = reader.finish(end);
    }
}

/// A request through its dialect; what can be clamped can be rewritten, and the rewrite read again.
fn request(data: &[u8]) {
    let [which, rest @ ..] = data else { return };
    let (name, method, path, _) = CALLS[usize::from(*which) % CALLS.len()];
    let (dialect, endpoint) = detect(dialect(name), method, path.split('?').next().unwrap_or(""));
    let call = Call::new(endpoint, path);
    let body = Bytes::copy_from_slice(rest);
    let Ok(facts) = dialect.request(&call, &body) else { return };
    if facts.can_clamp {
        let rewrite = Rewrite { ask_usage: facts.must_ask_usage, ceiling: Some(1_024) };
        if let Ok(done) = dialect.rewrite(endpoint, &body, rewrite) {
            let again = dialect.request(&call, &done.into()).expect("what was rewritten can be read");
            assert_eq!(again.ceiling, Some(1_024), "the ceiling that was set is the one that is read");
        }
    }
}

/// The messages of a WebSocket, one per line; a line that starts with `>` is the agent's.
fn socket(data: &[u8]) {
    let [which, rest @ ..] = data else { return };
    let (name, path) = SOCKETS[usize::from(*which) % SOCKETS.len()];
    let (dialect, endpoint) = detect(dialect(name), "GET", path.split('?').next().unwrap_or(""));
    if endpoint.billing != Billing::Socket {
        return;
    }
    let Some(mut socket) = dialect.socket(&Call::new(endpoint, path)) else { return };
    for line in rest.split(|b| *b == b'\n') {
        match line.strip_prefix(b">") {
            Some(sent) => socket.sent(sent),
            None => drop(socket.received(line)),
        }
        let _ = socket.facts();
    }
    let _ = socket.finish();
}

/// The stream that loses its usage event; any split gives the same bytes.
fn strip(data: &[u8]) {
    let through = |size: usize| {
        let mut stripper = UsageStripper::new();
        let mut out = Vec::new();
        for chunk in data.chunks(size) {
            stripper.push(Bytes::copy_from_slice(chunk)).iter().for_each(|part| out.extend_from_slice(part));
        }
        out.extend(stripper.finish().unwrap_or_default());
        out
    };
    assert!(through(usize::MAX) == through(3), "any split gives the same bytes");
}

/// Every content coding; nothing comes out in one piece that is large.
fn coding(data: &[u8]) {
    for coding in ["gzip", "br", "zstd", "deflate"] {
        let mut decoder = Decoder::new(Some(coding)).expect("it is one of the known");
        let mut total = 0;
        for chunk in data.chunks(1_000) {
            let fed = decoder.feed(chunk, |piece| {
                assert!(piece.len() <= 64 * 1024, "a piece is small");
                total += piece.len();
            });
            // A bomb is no news, and takes its time.
            if fed.is_err() || total > 16 * 1024 * 1024 {
                break;
            }
        }
    }
}

/// A whole recording: a JSON document, base64, codings, every dialect by its URL.
fn har(data: &[u8]) {
    thread_local! {
        static SETTING: (HostTable, Prices) = (HostTable::new(&[]).expect("no entries"), Prices::embedded());
    }
    SETTING.with(|(hosts, prices)| {
        let setting = Setting { hosts, prices, now: NOW };
        let mut last = 0;
        let _ = replay(data, setting, &mut |entry| {
            if let Ok(replayed) = entry {
                assert!(replayed.index >= last, "rows are in order");
                assert!(replayed.row.cost_usd.get() >= 0, "no charge is negative");
                last = replayed.index;
            }
        });
    });
}

/// A method and a path, a host: what a request line can say.
fn head(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (method, path) = text.split_once(' ').unwrap_or(("POST", &text));
    for row in PROVIDERS {
        let (dialect, endpoint) = detect(Some(row.dialect), method, path);
        let _ = dialect.request(&Call::new(endpoint, path), &Bytes::new());
    }
    thread_local! {
        static HOSTS: HostTable = HostTable::new(&[]).expect("no entries");
    }
    HOSTS.with(|hosts| hosts.find(path, 443));
}

/// The frames of a WebSocket; any split gives the same events.
fn websocket_frames(data: &[u8]) {
    let through = |size: usize| {
        let mut decoder = Frames::default();
        let mut events: Vec<Event> = Vec::new();
        for mut chunk in data.chunks(size) {
            while !chunk.is_empty() {
                let (taken, event) = decoder.advance(chunk);
                assert!(taken > 0 && taken <= chunk.len(), "it takes what it is given, and takes some");
                events.extend(event);
                chunk = &chunk[taken..];
            }
        }
        (events, decoder.is_between_messages())
    };
    assert!(through(usize::MAX) == through(3), "any split gives the same events");
}

/// The lines of a payment: the request's header, the answer's, and the body of a 402.
fn payment(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\n');
    let [asked, answered, body] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let worth = |amount: Option<Pico>| assert!(amount.is_none_or(|a| a.get() >= 0), "no refunds");
    for (pays, settles) in [("x-payment", "x-payment-response"), ("payment-signature", "payment-response")] {
        let request = |name: &str| (name == pays).then_some(asked);
        let answer = |name: &str| (name == settles || name == "payment-required").then_some(answered);
        worth(x402::payment(request).and_then(|payment| payment.amount));
        worth(x402::settled(answer, request).and_then(|settled| settled.payment.amount));
        worth(x402::offer(answer, body.as_bytes()).and_then(|offer| offer.price));
    }
    worth(x402::offer(|_| None, data).and_then(|offer| offer.price));
}

/// A price list, and a quote from what it says.
fn prices(data: &[u8]) {
    thread_local! {
        static EMBEDDED: Prices = Prices::embedded();
    }
    let Ok(file) = PriceFile::read(data) else { return };
    EMBEDDED.with(|embedded| embedded.changes(&file, NOW));
    let mut imported = Imported::default();
    imported.add(file);
    let prices = Prices::new(Settings::default(), imported);
    for (seller, model) in [("a", "b"), ("openai", "gpt-4o"), ("vertex", "gemini-2.5-pro")] {
        let facts = RequestFacts { model: Some(model.to_owned()), choices: 1, ..RequestFacts::default() };
        assert!(prices.quote(seller, &facts, NOW).worst().get() >= 0, "no quote is negative");
        let _ = prices.explain(Some(Seller::from(seller)), model, NOW);
    }
}

/// A config file, and the sentences about its mistakes.
fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, Path::new("meter.toml")) {
        Ok(config) => drop(HostTable::new(&config.hosts)),
        Err(mistakes) => assert!(!mistakes.to_string().is_empty(), "a mistake is said"),
    }
}

/// The part before the first zero byte, and the part behind it; without one all of it is the answer.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|b| *b == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (&[], data),
    }
}
