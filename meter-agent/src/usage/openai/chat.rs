//! Chat Completions: `POST .../chat/completions`.
//!
//! A stream carries usage only when `stream_options.include_usage` asks for it: in its last chunk, whose `choices` is
//! empty. Others put a running total into every chunk, or the same numbers into two (Groq, in `x_groq`): the last one
//! counts, as a whole. An error in place of an answer, or at the end of a stream, comes without usage and is free.
//!
//! What the numbers mean is `usage`'s, what is taken where there are none is `fallback`'s.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    delta::Generated,
    fallback::{Fallback, kept_text},
    input, model_of,
    usage::ChatUsage,
};
use crate::usage::{
    AnswerHead, BodyEnd, Call, Quality, Reader, Reading, RequestFacts, Rewrite, Unreadable, Usage,
    edit::RawObject,
    fallbacks,
    json::{lenient, or_default, parse, text},
    providers::Quirks,
    read::{Either, Events, JsonReader, SseReader, is_sse},
    reported::{Charged, TopLevel, charged},
};

pub(crate) fn request(call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let stream = object.is_true("stream");
    let mut model = model_of(call, &object);
    let fallbacks = fallbacks::read(&object, &mut model)?;
    let audio_out = object.get("modalities").is_some_and(|m| m.contains("\"audio\""));
    let mut facts = RequestFacts {
        stream,
        ceiling: object.count("max_completion_tokens").max(object.count("max_tokens")),
        choices: object.count("n").unwrap_or(1).max(1),
        service_tier: object.text("service_tier"),
        must_ask_usage: stream && !asks_usage(&object),
        can_clamp: true,
        // Of a predicted output the tokens that were not taken are billed too.
        hidden_output: audio_out || object.has("prediction") || input::hides_output(model.as_deref()),
        model,
        fallbacks,
        text: kept_text(body),
        ..RequestFacts::default()
    };
    input::bound(&object, body, &mut facts)?;
    // A gateway that is given a list of models answers by any of them.
    let others = if facts.fallbacks.is_empty() { 0 } else { input::preamble("auto", false) };
    facts.input_bound = facts.input_bound.saturating_add(call.quirks.preamble_tokens).saturating_add(others);
    search(&object, &mut facts);
    Ok(facts)
}

/// Searches that the provider runs: by an option, by a plugin, or because the model is made for it.
fn search(object: &RawObject<'_>, facts: &mut RequestFacts) {
    let model = facts.model.as_deref().unwrap_or("");
    let by_model = model.contains("-search-") || model.ends_with(":online") || model.contains("compound");
    let by_plugin = object.get("plugins").is_some_and(|p| p.contains("\"web\""));
    let by_option = ["web_search_options", "search_parameters"].iter().any(|name| object.has(name));
    // Perplexity's models always search; what they find is no part of the prompt, and the fee is one per request.
    if (by_model || by_plugin || by_option) && !model.contains("sonar") {
        facts.server_tools = true;
        facts.input_unbounded = true;
        facts.tools.insert("web_search".into(), input::WEB_SEARCHES);
    }
}

pub(super) fn asks_usage(object: &RawObject<'_>) -> bool {
    object
        .get("stream_options")
        .and_then(|raw| RawObject::parse(raw.as_bytes()).ok())
        .is_some_and(|options| options.is_true("include_usage"))
}

pub(crate) fn rewrite(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if rewrite.ask_usage {
        ask_usage(&mut object)?;
    }
    if let Some(ceiling) = rewrite.ceiling {
        let stated = ["max_tokens", "max_completion_tokens"].map(|name| (name, object.has(name)));
        let own = ceiling_field(object.text("model").as_deref());
        let nothing_stated = stated.iter().all(|(_, has)| !has);
        for (name, has) in stated {
            if has || (nothing_stated && name == own) {
                object.set(name, ceiling.to_string());
            }
        }
    }
    Ok(object.write().into_bytes())
}

/// The field for a ceiling that the request does not state itself: OpenAI's reasoning models refuse `max_tokens`, most
/// other makers' servers know nothing else, and one that ignored the field would pass what is held.
fn ceiling_field(model: Option<&str>) -> &'static str {
    #[rustfmt::skip]
    const OTHER_MAKERS: &[&str] = &[
        "mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "pixtral", "voxtral", "deepseek", "sonar",
        "llama", "qwen", "qwq", "glm", "kimi", "gemma", "gemini", "claude", "command", "gpt-oss", "phi-", "granite",
        "minimax", "jamba", "palmyra", "nova",
    ];
    let name = model.unwrap_or("").to_ascii_lowercase();
    if OTHER_MAKERS.iter().any(|maker| name.contains(maker)) { "max_tokens" } else { "max_completion_tokens" }
}

/// Sets `stream_options.include_usage` and leaves its other options.
pub(super) fn ask_usage(object: &mut RawObject<'_>) -> Result<(), Unreadable> {
    let old = object.get("stream_options").filter(|raw| *raw != "null").unwrap_or("{}").to_owned();
    let mut options = RawObject::parse(old.as_bytes())?;
    options.set("include_usage", "true".to_owned());
    object.set("stream_options", options.write());
    Ok(())
}

pub(crate) fn reader(call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let (fallback, quirks) = (Fallback::of(call, facts), call.quirks);
    let generated = fallback.generated();
    let stream = Stream { fallback: fallback.clone(), quirks, generated, ..Stream::default() };
    let document = move |body: Option<&[u8]>, end| document(body, end, &fallback, quirks);
    let is_events = is_sse(head, facts.stream);
    Either::of(is_events, Box::new(SseReader::new(stream)), Box::new(JsonReader::new(document)))
}

fn document(body: Option<&[u8]>, end: BodyEnd, fallback: &Fallback, quirks: Quirks) -> Reading {
    let Some(body) = body else { return Reading::absent() };
    let Some(chunk) = parse::<Chunk>(body) else { return fallback.of_document(None, body, end) };
    match chunk.usage_object() {
        Some(usage) => {
            let reading = exact(&usage, quirks);
            let service_tier = chunk.service_tier.or(reading.service_tier);
            Reading { model: fallback.model(chunk.model), service_tier, ..reading }
        }
        None if chunk.has_failed() && chunk.choices.is_empty() => Reading::free(FAILED),
        None => {
            let reading = fallback.of_document(chunk.model, body, end);
            Reading { service_tier: chunk.service_tier, ..reading }
        }
    }
}

/// Why an error in place of an answer costs nothing.
const FAILED: &str = "the provider answered with an error";

fn exact(usage: &Charged<ChatUsage>, quirks: Quirks) -> Reading {
    let mut reading = Reading::of(Quality::Exact, usage.usage.usage(quirks));
    usage.usage.complete(&mut reading);
    reading.reported = usage.charge;
    reading
}

/// An answer, or a chunk of one.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default, deserialize_with = "text")]
    service_tier: Option<String>,
    #[serde(default, deserialize_with = "charged")]
    usage: Option<Charged<ChatUsage>>,
    #[serde(default, deserialize_with = "lenient")]
    x_groq: Option<XGroq>,
    #[serde(default)]
    cost: TopLevel,
    #[serde(default)]
    error: Option<IgnoredAny>,
    /// `error` where it is one itself (vLLM, Mistral).
    #[serde(default, deserialize_with = "text")]
    object: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct XGroq {
    #[serde(default, deserialize_with = "charged")]
    usage: Option<Charged<ChatUsage>>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, deserialize_with = "text")]
    finish_reason: Option<String>,
}

impl Chunk {
    fn usage_object(&self) -> Option<Charged<ChatUsage>> {
        let stated = |usage: &Option<Charged<ChatUsage>>| usage.clone().filter(|u| u.usage.is_stated());
        let found = stated(&self.usage).or_else(|| stated(&self.x_groq.as_ref()?.usage))?;
        Some(Charged { charge: found.charge.or(self.cost.0), ..found })
    }

    fn has_failed(&self) -> bool {
        self.error.is_some() || self.object.as_deref() == Some("error")
    }

    /// Whether what it says of usage is the last word: the chunk is there for the usage alone, or ends the answer.
    fn is_last(&self) -> bool {
        self.choices.iter().all(|c| c.finish_reason.as_deref().is_some_and(|reason| !reason.is_empty()))
    }
}

#[derive(Default)]
struct Stream {
    fallback: Fallback,
    quirks: Quirks,
    generated: Generated,
    model: Option<String>,
    service_tier: Option<String>,
    usage: Option<Charged<ChatUsage>>,
    is_final: bool,
    events: u64,
    failed: bool,
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        let first = self.events == 0;
        self.events += 1;
        let added = self.generated.chunk(data);
        self.is_final &= !added;
        // A chunk that adds text is not the one that says that the answer failed.
        let failed = name == "error" || (!added && follows(&ERROR, data, |b| b != b'n'));
        if !(first || failed || self.model.is_none() || follows(&USAGE, data, |b| b == b'{')) {
            return;
        }
        let Some(chunk) = parse::<Chunk>(data) else { return };
        self.failed |= name == "error" || chunk.has_failed();
        if let Some(usage) = chunk.usage_object() {
            self.is_final = chunk.is_last();
            self.usage = Some(usage);
        }
        self.model = chunk.model.filter(|m| !m.is_empty()).or(self.model.take());
        self.service_tier = chunk.service_tier.or(self.service_tier.take());
    }

    fn so_far(&self) -> Option<Reading> {
        let model = self.fallback.model(self.model.clone());
        let delivered = self.generated.tokens(self.fallback.bounds().hides_output());
        let mut reading = match self.usage.as_ref().filter(|u| !u.usage.is_zero()) {
            Some(usage) => Reading { model, quality: Quality::Estimated, reported: None, ..exact(usage, self.quirks) },
            None => self.fallback.bounds().so_far(model, delivered),
        };
        reading.usage.output_tokens = reading.usage.output_tokens.max(delivered);
        Some(reading)
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let model = self.model.take();
        let reading = match self.usage.take().filter(|u| !u.usage.is_zero() || self.generated.bytes == 0) {
            Some(usage) if end == BodyEnd::Complete || self.is_final => exact(&usage, self.quirks),
            Some(usage) => self.unfinished(&exact(&usage, self.quirks)),
            None if dropped > 0 => Reading::absent(),
            None if self.failed => Reading::free(FAILED),
            None => self.fallback.of_stream(model.clone(), &self.generated, end),
        };
        let service_tier = self.service_tier.take().or(reading.service_tier);
        Reading { model: self.fallback.model(model), service_tier, ..reading }
    }
}

impl Stream {
    /// A running total, as some providers put into every chunk, of an answer that was cut. The charge that stands
    /// in it is not the last word either.
    fn unfinished(&self, so_far: &Reading) -> Reading {
        let output_tokens = self.fallback.bounds().output_after(so_far.usage.output_tokens);
        Reading {
            server_tools: so_far.server_tools.clone(),
            reason: Some("the answer was cut after a running total"),
            ..Reading::of(Quality::Estimated, Usage { output_tokens, ..so_far.usage })
        }
    }
}

static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));

/// Whether the member is there with a value that starts as asked for, without decoding the chunk. Most chunks say
/// `"usage":null` or nothing.
fn follows(member: &Finder<'_>, data: &[u8], fits: impl Fn(u8) -> bool) -> bool {
    member.find_iter(data).any(|at| {
        let rest = &data[at + member.needle().len()..];
        rest.iter().find(|b| !b.is_ascii_whitespace() && **b != b':').is_some_and(|b| fits(*b))
    })
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
