//! The usage reader alone, on one core: megabytes per second of streams, microseconds and allocations per answer, and
//! what counting an answer without usage takes.
//!
//! The binary counts its allocations by [`Counting`], so that it must be its global allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use meter_agent::usage::{AnswerHead, BodyEnd, Call, RequestFacts, detect, dialect};

/// Bytes of a chunk: what a TLS record holds at most.
const CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of a synthetic stream: few enough that most are read within one turn on a busy core.
const STREAM_BYTES: usize = 1 << 20;
const ROUNDS: usize = 101;

/// The system's allocator, counting.
pub struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// One API's traffic.
struct Subject {
    name: &'static str,
    dialect: &'static str,
    path: &'static str,
    request: &'static str,
    /// An event that says nothing of usage, and one that does.
    event: &'static str,
    last: &'static str,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        name: "Chat Completions",
        dialect: "openai",
        path: "/v1/chat/completions",
        request: r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#,
        event: "data: {\"id\":\"chatcmpl-CaXq0L0pV4W8sDqkXy3VdW5b5Gm2l\",\"object\":\"chat.completion.chunk\",\"created\":1795219200,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_65564d8ba5\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" kernel\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"Kj3hs\"}\n\n",
        last: "data: {\"id\":\"chatcmpl-CaXq0L0pV4W8sDqkXy3VdW5b5Gm2l\",\"object\":\"chat.completion.chunk\",\"created\":1795219200,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":12,\"total_tokens\":20}}\n\ndata: [DONE]\n\n",
    },
    Subject {
        name: "Responses",
        dialect: "openai",
        path: "/v1/responses",
        request: r#"{"model":"gpt-5.2","stream":true,"input":"hi"}"#,
        event: "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":17,\"item_id\":\"msg_0a1b2c3d4e5f60718293a4b5c6d7e8f9\",\"output_index\":0,\"content_index\":0,\"delta\":\" kernel\",\"logprobs\":[],\"obfuscation\":\"Kj3hs\"}\n\n",
        last: "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"model\":\"gpt-5.2\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":8,\"output_tokens\":12}}}\n\n",
    },
    Subject {
        name: "Messages",
        dialect: "anthropic",
        path: "/v1/messages",
        request: r#"{"model":"claude-sonnet-4-5","max_tokens":1000,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        event: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" kernel\"}}\n\n",
        last: "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"input_tokens\":8,\"output_tokens\":12}}\n\n",
    },
    Subject {
        name: "streamGenerateContent",
        dialect: "gemini",
        path: "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        request: r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#,
        event: "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \" kernel\"}],\"role\": \"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 8,\"candidatesTokenCount\": 4,\"totalTokenCount\": 12},\"modelVersion\": \"gemini-2.5-flash\",\"responseId\": \"abcdef\"}\r\n\r\n",
        last: "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \".\"}],\"role\": \"model\"},\"finishReason\": \"STOP\",\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 8,\"candidatesTokenCount\": 12,\"totalTokenCount\": 20},\"modelVersion\": \"gemini-2.5-flash\"}\r\n\r\n",
    },
];

/// An ordinary answer without streaming, with some kilobytes of text.
const DOCUMENT_HEAD: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1795219200,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":""#;
const DOCUMENT_TAIL: &str = r#"","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":700,"total_tokens":708,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"service_tier":"default"}"#;

/// Prints the reader's figures.
pub fn run() {
    println!("\nUsage reader, one core, medians of {ROUNDS}:");
    println!(
        "  {:<24}{:>10}{:>14}{:>15}{:>13}{:>14}",
        "", "MB/s", "ns per event", "us per answer", "allocations", "with request"
    );
    for subject in &SUBJECTS {
        stream(subject);
    }
    let text = "All of the sidecar's work is done as the bytes pass. ".repeat(60);
    document("JSON answer of 4 KB", &format!("{DOCUMENT_HEAD}{text}{DOCUMENT_TAIL}"));
    document("JSON answer of 1 MB", &format!("{DOCUMENT_HEAD}{}{DOCUMENT_TAIL}", text.repeat(330)));
    counting();
}

fn stream(subject: &Subject) {
    let events = STREAM_BYTES / subject.event.len();
    let long = subject.event.repeat(events) + subject.last;
    let took = median(|| read(subject, "text/event-stream", &long));
    let each = took.as_secs_f64() * 1e9 / count(events);
    let short = subject.event.repeat(40) + subject.last;
    print(subject, subject.name, megabytes(long.len()) / took.as_secs_f64(), &format!("{each:.0}"), &short);
}

fn document(name: &str, body: &str) {
    let subject = &SUBJECTS[0];
    let took = median(|| read(subject, "application/json", body));
    print(subject, name, megabytes(body.len()) / took.as_secs_f64(), "", body);
}

/// A row of the table; `answer` is what the figures per answer are of.
fn print(subject: &Subject, name: &str, speed: f64, each: &str, answer: &str) {
    let kind = if answer.starts_with('{') { "application/json" } else { "text/event-stream" };
    let reader = allocations(|| read(subject, kind, answer));
    let request = allocations(|| drop(black_box(ask(subject))));
    let took = median(|| read(subject, kind, answer)).as_secs_f64() * 1e6;
    println!("  {name:<24}{speed:>10.0}{each:>14}{took:>15.1}{reader:>13}{:>14}", reader + request);
}

pub(super) fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// An answer without usage: the first one makes the tokenizer.
fn counting() {
    let subject = &SUBJECTS[0];
    let event =
        |text: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let (short, long) = (event(" kernel"), event(&" All of the sidecar's work.".repeat(38)).repeat(250));
    let before = resident_kib();
    let start = Instant::now();
    read(subject, "text/event-stream", &short);
    let first = start.elapsed();
    let kept = resident_kib().saturating_sub(before);
    let later = median(|| read(subject, "text/event-stream", &long));
    println!(
        "  An answer without usage: the first {:.0} ms and {:.0} MB for its tokenizer, then {:.1} ms for one of 256 KiB.",
        first.as_secs_f64() * 1e3,
        megabytes(kept * 1024),
        later.as_secs_f64() * 1e3,
    );
}

/// Memory of this process that is in RAM.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Reads a whole answer in chunks, as the sidecar does: the request's facts are known by then.
fn read(subject: &Subject, content_type: &str, body: &str) {
    let (dialect, endpoint) = detect(dialect(subject.dialect), "POST", subject.path);
    let call = Call::new(endpoint, subject.path);
    let facts = facts(subject);
    let mut reader = dialect.reader(&call, facts, AnswerHead::new(200, content_type));
    for chunk in body.as_bytes().chunks(CHUNK_BYTES) {
        reader.feed(black_box(chunk));
    }
    let reading = reader.finish(BodyEnd::Complete);
    assert!(reading.usage.output_tokens > 0, "{} was not read", subject.name);
    black_box(reading);
}

/// The request's facts, read once.
fn facts(subject: &Subject) -> &'static RequestFacts {
    use std::{collections::HashMap, sync::Mutex};
    static KNOWN: Mutex<Option<HashMap<&'static str, &'static RequestFacts>>> = Mutex::new(None);
    let mut known = KNOWN.lock().expect("nobody panics with it");
    known.get_or_insert_default().entry(subject.name).or_insert_with(|| Box::leak(Box::new(ask(subject))))
}

fn ask(subject: &Subject) -> RequestFacts {
    let (dialect, endpoint) = detect(dialect(subject.dialect), "POST", subject.path);
    let facts = dialect.request(&Call::new(endpoint, subject.path), &Bytes::from_static(subject.request.as_bytes()));
    facts.expect("the request is a good one")
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

#[expect(clippy::cast_precision_loss, reason = "numbers for people to read")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "numbers for people to read")]
fn count(n: usize) -> f64 {
    n as f64
}
