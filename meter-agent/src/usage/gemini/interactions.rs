//! Interactions: `POST .../interactions`, as JSON or server-sent events, in the foreground or the background, and
//! `GET .../interactions/ID`.
//!
//! Thoughts are beyond the output, tool use is beyond the input, cached tokens are a part of it; `raw_prompt_token`
//! is not billed. An interaction that runs in the background is pending until a GET shows it done; one that was
//! billed when it was made costs nothing to read again.
//!
//! Source: ai.google.dev/api/interactions-api.

mod request;

use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

pub(super) use self::request::{facts, rewrite};
use super::usage::{Kind, Modality, Totals};
use crate::usage::{
    AnswerHead, Billing, BodyEnd, Line, Quality, Reader, Reading, RequestFacts, ResultRef, Standing, Tools,
    delivered::Text,
    estimate::Bounds,
    json::{Count, items, lenient, parse, text},
    read::{Either, Events, JsonReader, SseReader, is_sse},
    strings,
};

/// Reads the answer that makes an interaction ([`Billing::Metered`]) or that shows one again.
pub(super) fn reader(billing: Billing, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let context = Context {
        bounds: Bounds::of(facts),
        requested: facts.model.clone(),
        again: billing == Billing::Result,
        background: facts.background,
        server_tools: facts.server_tools,
    };
    let stream = SseReader::new(Stream { context: context.clone(), ..Stream::default() });
    let document = JsonReader::new(move |body: Option<&[u8]>, end| {
        let size = body.map_or(0, <[u8]>::len) as u64;
        match body.and_then(parse::<Interaction>) {
            Some(interaction) => context.reading(interaction, size),
            None => context.unseen(None, size, end),
        }
    });
    Either::of(is_sse(head, facts.stream), Box::new(stream), Box::new(document))
}

/// What a reading needs of the request.
#[derive(Clone, Default)]
struct Context {
    bounds: Bounds,
    requested: Option<String>,
    again: bool,
    background: bool,
    server_tools: bool,
}

impl Context {
    /// Of an interaction that was seen whole.
    fn reading(&self, interaction: Interaction, size: u64) -> Reading {
        let running = matches!(interaction.status.as_deref(), Some("in_progress" | "queued"));
        let standing = match (running, self.again) {
            (true, _) => Standing::Pending,
            (false, true) => Standing::Repeat,
            (false, false) => Standing::Final,
        };
        let result = interaction.id.map(|id| ResultRef { id, standing });
        let model = interaction.model.or(interaction.agent).or_else(|| self.requested.clone());
        let failed = interaction.error.is_some() || interaction.status.as_deref() == Some("failed");
        let reading = match interaction.usage.filter(InteractionUsage::is_stated) {
            _ if running => Reading::nothing(),
            Some(usage) => usage.reading(Quality::Exact),
            None if failed => Reading::nothing(),
            None => self.bounds.reading(None, size, BodyEnd::Complete),
        };
        Reading { model, service_tier: interaction.service_tier, result, ..reading }
    }

    /// Of an answer that ended before the interaction was seen whole.
    fn unseen(&self, start: Option<Interaction>, size: u64, end: BodyEnd) -> Reading {
        let (id, model) = start.map_or((None, None), |s| (s.id, s.model.or(s.agent)));
        let model = model.or_else(|| self.requested.clone());
        if self.again {
            // Nothing can be said of it now; the next look at it will.
            return Reading { model, ..Reading::absent() };
        }
        // In the background it goes on, and can be looked at.
        let result = id.filter(|_| self.background).map(|id| ResultRef { id, standing: Standing::Pending });
        Reading { result, ..self.bounds.reading(model, size, end) }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Interaction {
    #[serde(deserialize_with = "text")]
    id: Option<String>,
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    #[serde(deserialize_with = "text")]
    agent: Option<String>,
    #[serde(deserialize_with = "text")]
    status: Option<String>,
    #[serde(deserialize_with = "text")]
    service_tier: Option<String>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<InteractionUsage>,
    error: Option<IgnoredAny>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct InteractionUsage {
    total_input_tokens: Count,
    total_cached_tokens: Count,
    total_output_tokens: Count,
    total_thought_tokens: Count,
    total_tool_use_tokens: Count,
    #[serde(deserialize_with = "items")]
    input_tokens_by_modality: Vec<Part>,
    #[serde(deserialize_with = "items")]
    cached_tokens_by_modality: Vec<Part>,
    #[serde(deserialize_with = "items")]
    output_tokens_by_modality: Vec<Part>,
    #[serde(deserialize_with = "items")]
    tool_use_tokens_by_modality: Vec<Part>,
    #[serde(deserialize_with = "items")]
    grounding_tool_count: Vec<Calls>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Part {
    modality: Value,
    tokens: Count,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Calls {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    count: Count,
}

fn sum(parts: &[Part], of: Modality) -> u64 {
    parts.iter().filter(|p| Modality::of(&p.modality) == of).map(|p| p.tokens.get()).fold(0, u64::saturating_add)
}

impl InteractionUsage {
    /// Whether it says anything of tokens; an empty object does not.
    fn is_stated(&self) -> bool {
        [self.total_input_tokens, self.total_output_tokens, self.total_thought_tokens].iter().any(|n| n.0.is_some())
    }

    fn reading(self, quality: Quality) -> Reading {
        Reading { server_tools: self.tools(), ..Reading::of_line(quality, self.line()) }
    }

    fn line(&self) -> Line {
        let totals = Totals {
            prompt: self.total_input_tokens.get(),
            tool_use: self.total_tool_use_tokens.get(),
            cached: self.total_cached_tokens.get(),
            candidates: self.total_output_tokens.get(),
            thoughts: self.total_thought_tokens.get(),
        };
        totals.line(|of| {
            let input = sum(&self.input_tokens_by_modality, of);
            Kind {
                input: input.saturating_add(sum(&self.tool_use_tokens_by_modality, of)),
                cached: sum(&self.cached_tokens_by_modality, of),
                output: sum(&self.output_tokens_by_modality, of),
            }
        })
    }

    fn tools(&self) -> Tools {
        let mut tools = Tools::new();
        for calls in &self.grounding_tool_count {
            if let (Some(kind), Some(count @ 1..)) = (&calls.kind, calls.count.0) {
                let sum = tools.entry(kind.clone().into()).or_default();
                *sum = count.saturating_add(*sum);
            }
        }
        tools
    }
}

/// An event that holds an interaction: its start or its end.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    interaction: Option<Interaction>,
    #[serde(default)]
    metadata: Option<Running>,
}

/// The usage so far, which some events carry beside what they say.
#[derive(Deserialize)]
struct Running {
    #[serde(default)]
    usage: Option<InteractionUsage>,
}

#[derive(Default)]
struct Stream {
    context: Context,
    start: Option<Interaction>,
    done: Option<Interaction>,
    so_far: Option<InteractionUsage>,
    visible_bytes: u64,
    text: Text,
    failed: bool,
}

/// Bytes of text that an event adds to the answer. Of another kind of piece nothing is said: summaries of thoughts are
/// not the thoughts that are billed, results of tools were not generated, and of sounds and images the bytes say nothing.
fn text_bytes(event: &[u8]) -> u64 {
    let (mut bytes, mut is_text) = (0, true);
    strings::each(event, &mut |name, text| match name {
        b"text" | b"arguments" => bytes += text.len() as u64,
        b"type" => is_text &= matches!(text, b"text" | b"arguments_delta"),
        _ => {}
    });
    if is_text { bytes } else { 0 }
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        let has = |key: &str| name == key || memmem::find(data, key.as_bytes()).is_some();
        let holds = has("interaction.complete") || has("interaction.created") || has("interaction.start");
        if !holds {
            self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64);
            self.text.piece(text_bytes(data));
            self.failed |= name == "error" || memmem::find(data, b"\"event_type\":\"error\"").is_some();
        }
        if !holds && memmem::find(data, b"\"total_input_tokens\"").is_none() {
            return;
        }
        let Some(event) = parse::<Event>(data) else { return };
        self.so_far = event.metadata.and_then(|m| m.usage).or(self.so_far.take());
        match event.interaction {
            Some(whole) if has("interaction.complete") => self.done = Some(whole),
            Some(start) => self.start = Some(start),
            None => {}
        }
    }

    /// Of one that goes on in the background, or was billed when it was made, an end of the stream would spare nothing.
    fn so_far(&self) -> Option<Reading> {
        if self.context.again || self.context.background || self.done.is_some() {
            return None;
        }
        let named = self.start.as_ref().and_then(|start| start.model.clone().or_else(|| start.agent.clone()));
        let model = named.or_else(|| self.context.requested.clone());
        let seen = self.text.tokens();
        let mut reading = match self.so_far.clone().filter(InteractionUsage::is_stated) {
            Some(usage) => usage.reading(Quality::Estimated),
            None => self.context.bounds.so_far(None, seen),
        };
        reading.raise_output(seen);
        Some(Reading { model, ..reading })
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        if let Some(done) = self.done.take() {
            return self.context.reading(done, self.visible_bytes);
        }
        if dropped > 0 {
            return Reading { model: self.context.requested.take(), ..Reading::absent() };
        }
        let mut reading = self.context.unseen(self.start.take(), self.visible_bytes, end);
        match self.so_far.take() {
            _ if self.context.again => {}
            None if self.failed => reading = Reading { model: reading.model, ..Reading::nothing() },
            // Server tools may have added to the input since.
            Some(usage) if !self.context.server_tools => {
                let mut known = usage.reading(Quality::Estimated);
                known.usage.output_tokens = self.context.bounds.output_after(known.usage.output_tokens);
                known.lines.clear();
                reading = Reading { model: reading.model, result: reading.result, ..known };
            }
            Some(_) | None => {}
        }
        reading
    }
}
