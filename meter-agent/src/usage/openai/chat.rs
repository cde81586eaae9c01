//! Chat Completions: `POST .../chat/completions`.
//!
//! `prompt_tokens` includes cached, cache-write and audio tokens; `completion_tokens` includes reasoning and
//! audio. A stream carries usage only when `stream_options.include_usage` asks for it: in its last chunk, whose
//! `choices` is empty. Groq says the same numbers in `x_groq` as well; they are counted once.

use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};

use super::input;
use crate::usage::{
    AnswerHead, BodyEnd, Quality, Reader, Reading, RequestFacts, Rewrite, Unreadable, Usage,
    edit::RawObject,
    estimate::Bounds,
    json::{Count, or_default, parse, text},
    read::{Events, JsonReader, SseReader, is_sse},
};

/// What `completion_tokens` leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Totals {
    /// Nothing: the dialect as OpenAI defines it.
    Plain,
    /// Hidden thinking, which only the total shows (Gemini's compatible endpoint).
    ThinkingInTotal,
}

pub(crate) fn request(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let stream = object.is_true("stream");
    let model = object.text("model");
    let audio_out = object.get("modalities").is_some_and(|m| m.contains("\"audio\""));
    let mut facts = RequestFacts {
        stream,
        ceiling: object.count("max_completion_tokens").max(object.count("max_tokens")),
        choices: object.count("n").unwrap_or(1).max(1),
        service_tier: object.text("service_tier"),
        must_ask_usage: stream && !asks_usage(&object),
        can_clamp: true,
        hidden_output: audio_out || input::hides_output(model.as_deref()),
        model,
        ..RequestFacts::default()
    };
    input::bound(body, &mut facts)?;
    if object.has("web_search_options") || facts.model.as_deref().is_some_and(|m| m.contains("-search-")) {
        facts.server_tools = true;
        facts.input_unbounded = true;
        facts.web_searches = input::WEB_SEARCHES;
    }
    Ok(facts)
}

fn asks_usage(object: &RawObject<'_>) -> bool {
    object
        .get("stream_options")
        .and_then(|raw| RawObject::parse(raw.as_bytes()).ok())
        .is_some_and(|options| options.is_true("include_usage"))
}

pub(crate) fn rewrite(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if rewrite.ask_usage {
        let old = object.get("stream_options").filter(|raw| *raw != "null").unwrap_or("{}").to_owned();
        let mut options = RawObject::parse(old.as_bytes())?;
        options.set("include_usage", "true".to_owned());
        object.set("stream_options", options.write());
    }
    if let Some(ceiling) = rewrite.ceiling {
        // `max_tokens` is refused by reasoning models, so it is kept only where the request uses it itself.
        if object.has("max_tokens") {
            object.set("max_tokens", ceiling.to_string());
        }
        if object.has("max_completion_tokens") || !object.has("max_tokens") {
            object.set("max_completion_tokens", ceiling.to_string());
        }
    }
    Ok(object.write().into_bytes())
}

pub(crate) fn reader(facts: &RequestFacts, head: AnswerHead<'_>, totals: Totals) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    if is_sse(head, facts.stream) {
        Box::new(SseReader::new(Stream { bounds, totals: Some(totals), ..Stream::default() }))
    } else {
        Box::new(JsonReader::new(move |body: Option<&[u8]>, end| document(body, end, bounds, totals)))
    }
}

fn document(body: Option<&[u8]>, end: BodyEnd, bounds: Bounds, totals: Totals) -> Reading {
    let Some(body) = body else { return Reading::absent() };
    let bounds = bounds.of_document(end);
    match parse::<Chunk>(body) {
        Some(chunk) => match chunk.usage_object() {
            Some(usage) => chunk.reading(usage, totals),
            None if chunk.error.is_some() && chunk.choices.is_empty() => Reading::nothing(),
            None => bounds.reading(chunk.model, body.len() as u64, end),
        },
        None => bounds.reading(None, body.len() as u64, end),
    }
}

/// An answer, or a chunk of one.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default, deserialize_with = "text")]
    service_tier: Option<String>,
    #[serde(default)]
    usage: Option<ChatUsage>,
    #[serde(default)]
    x_groq: Option<XGroq>,
    #[serde(default)]
    error: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "or_default")]
    choices: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct XGroq {
    #[serde(default)]
    usage: Option<ChatUsage>,
}

impl Chunk {
    fn usage_object(&self) -> Option<ChatUsage> {
        self.usage.or_else(|| self.x_groq.as_ref()?.usage)
    }

    fn reading(self, usage: ChatUsage, totals: Totals) -> Reading {
        Reading {
            model: self.model,
            service_tier: self.service_tier,
            ..Reading::of(Quality::Exact, usage.usage(totals))
        }
    }
}

/// The usage object of Chat Completions and Embeddings.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChatUsage {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Count,
    #[serde(alias = "output_tokens")]
    completion_tokens: Count,
    total_tokens: Count,
    #[serde(alias = "input_tokens_details", deserialize_with = "or_default")]
    prompt_tokens_details: PromptDetails,
    #[serde(alias = "output_tokens_details", deserialize_with = "or_default")]
    completion_tokens_details: CompletionDetails,
    /// DeepSeek's older spelling of cached tokens.
    prompt_cache_hit_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names are the API's")]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: Count,
    pub(super) cache_write_tokens: Count,
    pub(super) audio_tokens: Count,
    pub(super) image_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names are the API's")]
pub(super) struct CompletionDetails {
    pub(super) reasoning_tokens: Count,
    pub(super) audio_tokens: Count,
    pub(super) image_tokens: Count,
}

impl ChatUsage {
    pub(super) fn usage(&self, totals: Totals) -> Usage {
        let input = self.prompt_tokens.get();
        let stated = self.completion_tokens.get();
        let thinking = match totals {
            Totals::Plain => 0,
            Totals::ThinkingInTotal => self.total_tokens.get().saturating_sub(input).saturating_sub(stated),
        };
        let mut prompt = self.prompt_tokens_details;
        if prompt.cached_tokens.0.is_none() {
            prompt.cached_tokens = self.prompt_cache_hit_tokens;
        }
        split(input, stated.saturating_add(thinking), prompt, self.completion_tokens_details)
    }
}

/// Input and output split by the details, none of which can be more than what it is a part of.
pub(super) fn split(input: u64, output: u64, prompt: PromptDetails, completion: CompletionDetails) -> Usage {
    let cache_read = prompt.cached_tokens.get().min(input);
    let cache_write_other = prompt.cache_write_tokens.get().min(input - cache_read);
    Usage {
        input_tokens: input,
        input_uncached: input - cache_read - cache_write_other,
        cache_read,
        cache_write_other,
        input_audio: prompt.audio_tokens.get().min(input),
        input_image: prompt.image_tokens.get().min(input),
        output_tokens: output,
        reasoning_tokens: completion.reasoning_tokens.get(),
        output_audio: completion.audio_tokens.get().min(output),
        output_image: completion.image_tokens.get().min(output),
        ..Usage::default()
    }
}

#[derive(Default)]
struct Stream {
    bounds: Bounds,
    totals: Option<Totals>,
    model: Option<String>,
    service_tier: Option<String>,
    usage: Option<ChatUsage>,
    /// The usage came in a chunk of its own, which is the last one.
    is_final: bool,
    /// Bytes of generated text, for the estimate.
    visible_bytes: u64,
    events: u64,
    failed: bool,
}

impl Events for Stream {
    fn event(&mut self, _: &str, data: &[u8]) {
        let first = self.events == 0;
        self.events += 1;
        let generated = delta_bytes(data);
        self.visible_bytes = self.visible_bytes.saturating_add(generated);
        let failed = memmem::find(data, b"\"error\"").is_some();
        if !(first || failed || self.model.is_none() || mentions_usage(data)) {
            return;
        }
        let Some(chunk) = parse::<Chunk>(data) else { return };
        self.failed |= chunk.error.is_some();
        if let Some(usage) = chunk.usage_object() {
            self.usage = Some(usage);
            self.is_final = chunk.choices.is_empty();
        }
        self.model = chunk.model.filter(|m| !m.is_empty()).or(self.model.take());
        self.service_tier = chunk.service_tier.or(self.service_tier.take());
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let (model, service_tier) = (self.model.take(), self.service_tier.take());
        let reading = match self.usage.map(|u| u.usage(self.totals.unwrap_or(Totals::Plain))) {
            Some(usage) if end == BodyEnd::Complete || self.is_final => {
                Reading { model, ..Reading::of(Quality::Exact, usage) }
            }
            // A running total, as some providers put into every chunk.
            Some(usage) => {
                let output_tokens = self.bounds.output_after(usage.output_tokens);
                Reading { model, ..Reading::of(Quality::Estimated, Usage { output_tokens, ..usage }) }
            }
            None if dropped > 0 => Reading { model, ..Reading::absent() },
            None if self.failed && self.visible_bytes == 0 => Reading { model, ..Reading::nothing() },
            None => self.bounds.reading(model, self.visible_bytes, end),
        };
        Reading { service_tier, ..reading }
    }
}

/// Whether the chunk holds a usage object, without decoding it. Most chunks say `"usage":null` or nothing.
fn mentions_usage(data: &[u8]) -> bool {
    memmem::find_iter(data, b"\"usage\"").any(|at| {
        let rest = &data[at + b"\"usage\"".len()..];
        rest.iter().find(|b| !b.is_ascii_whitespace() && **b != b':').is_some_and(|b| *b == b'{')
    })
}

/// Upper bound of the text that the chunk adds: the content's own bytes in the common shape, else everything
/// from the first `delta` on.
fn delta_bytes(data: &[u8]) -> u64 {
    const CONTENT: &[u8] = b"\"delta\":{\"content\":\"";
    let Some(delta) = memmem::find(data, b"\"delta\"") else { return 0 };
    let rest = &data[delta..];
    let all = rest.len() as u64;
    let Some(content) = rest.strip_prefix(CONTENT) else { return all };
    let mut escaped = false;
    let Some(end) = content.iter().position(|b| {
        let closes = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        closes
    }) else {
        return all;
    };
    let only_content = content[end + 1..].starts_with(b"}") && memmem::find(&content[end..], b"\"delta\"").is_none();
    if only_content { end as u64 } else { all }
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
