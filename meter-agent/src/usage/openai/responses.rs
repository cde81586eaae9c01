//! Responses: `POST .../responses` and `.../responses/compact`.
//!
//! `input_tokens` includes cached and cache-write tokens, `output_tokens` includes reasoning. A stream says its
//! usage in `response.completed`, `.incomplete` or `.failed`. A background response answers before it has run:
//! its usage comes with a later GET, so its POST is settled as absent and the GETs are free.

use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    chat::{CompletionDetails, PromptDetails, split},
    input,
};
use crate::usage::{
    AnswerHead, BodyEnd, Line, Quality, Reader, Reading, RequestFacts, Rewrite, Unreadable, Usage,
    edit::RawObject,
    estimate::Bounds,
    json::{Count, or_default, parse, text},
    read::{Events, JsonReader, SseReader, is_sse},
};

pub(crate) fn request(can_clamp: bool, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let model = object.text("model");
    let mut facts = RequestFacts {
        stream: object.is_true("stream"),
        ceiling: object.count("max_output_tokens"),
        choices: 1,
        service_tier: object.text("service_tier"),
        can_clamp,
        hidden_output: input::hides_output(model.as_deref()),
        model,
        ..RequestFacts::default()
    };
    input::bound(body, &mut facts)?;
    let names_earlier = ["previous_response_id", "conversation", "prompt"].iter().any(|name| object.has(name));
    facts.input_unbounded |= names_earlier;
    if facts.web_searches > 0 {
        facts.web_searches = object.count("max_tool_calls").unwrap_or(facts.web_searches);
    }
    Ok(facts)
}

pub(crate) fn rewrite(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if let Some(ceiling) = rewrite.ceiling {
        object.set("max_output_tokens", ceiling.to_string());
    }
    Ok(object.write().into_bytes())
}

pub(crate) fn reader(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    if is_sse(head, facts.stream) {
        return Box::new(SseReader::new(Stream { bounds, ..Stream::default() }));
    }
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end| {
        let size = body.map_or(0, |b| b.len() as u64);
        let bounds = bounds.of_document(end);
        match body.map(parse::<Answer>) {
            Some(Some(answer)) => answer.reading(bounds, size, end),
            Some(None) => bounds.reading(None, size, end),
            None => Reading::absent(),
        }
    }))
}

/// A response object.
#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default, deserialize_with = "text")]
    service_tier: Option<String>,
    #[serde(default, deserialize_with = "text")]
    status: Option<String>,
    #[serde(default)]
    usage: Option<ResponsesUsage>,
    #[serde(default)]
    error: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "or_default")]
    output: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(default)]
    action: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct ResponsesUsage {
    input_tokens: Count,
    output_tokens: Count,
    #[serde(deserialize_with = "or_default")]
    input_tokens_details: PromptDetails,
    #[serde(deserialize_with = "or_default")]
    output_tokens_details: CompletionDetails,
}

impl ResponsesUsage {
    fn usage(&self) -> Usage {
        split(self.input_tokens.get(), self.output_tokens.get(), self.input_tokens_details, self.output_tokens_details)
    }
}

impl Answer {
    fn reading(self, bounds: Bounds, visible_bytes: u64, end: BodyEnd) -> Reading {
        let searches = self.output.iter().filter(|item| item.is_billed_search()).count() as u64;
        let failed = self.status.as_deref() == Some("failed") || self.error.is_some();
        let waiting = matches!(self.status.as_deref(), Some("queued" | "in_progress"));
        let model = self.model;
        let mut reading = match self.usage {
            Some(usage) => Reading { model, ..Reading::of(Quality::Exact, usage.usage()) },
            // The provider bills no failed response; it gives it no usage.
            None if failed && self.output.is_empty() => Reading { model, ..Reading::nothing() },
            None if waiting => Reading { model, ..Reading::absent() },
            None => bounds.reading(model, visible_bytes, end),
        };
        if searches > 0 {
            reading.lines = vec![Line { usage: reading.usage, web_searches: searches, ..Line::default() }];
        }
        reading.service_tier = self.service_tier;
        reading
    }
}

impl Item {
    /// Opening a page and finding in one are not billed; a search is.
    fn is_billed_search(&self) -> bool {
        let action = self.action.as_ref().and_then(|a| a.kind.as_deref());
        self.kind.as_deref() == Some("web_search_call") && matches!(action, None | Some("search"))
    }
}

#[derive(Deserialize)]
struct Event {
    response: Answer,
}

#[derive(Default)]
struct Stream {
    bounds: Bounds,
    model: Option<String>,
    last: Option<Answer>,
    visible_bytes: u64,
    started: bool,
    failed: bool,
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        match kind(name, data) {
            Kind::Final => {
                if let Some(event) = parse::<Event>(data) {
                    self.last = Some(event.response);
                }
            }
            Kind::Started => {
                let event: Option<Event> = parse(data);
                self.model = event.and_then(|e| e.response.model).or(self.model.take());
                self.started = true;
            }
            Kind::Error => self.failed = true,
            Kind::Delta => {
                self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64);
            }
            Kind::Other => {}
        }
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let model = self.model.take();
        match self.last.take() {
            Some(answer) => answer.reading(self.bounds, self.visible_bytes, end),
            None if dropped > 0 => Reading { model, ..Reading::absent() },
            None if self.failed && self.visible_bytes == 0 => Reading { model, ..Reading::nothing() },
            None => self.bounds.reading(model, self.visible_bytes, end),
        }
    }
}

enum Kind {
    Started,
    Delta,
    Final,
    Error,
    Other,
}

/// By the event's name, else by the `type` in its data, which stands near one of its ends.
fn kind(name: &str, data: &[u8]) -> Kind {
    const FINAL: [&str; 3] = ["response.completed", "response.incomplete", "response.failed"];
    if name.is_empty() {
        let says = |kind: &str| memmem::find(data, format!("\"{kind}\"").as_bytes()).is_some();
        return if FINAL.iter().any(|kind| says(kind)) {
            Kind::Final
        } else if says("response.created") {
            Kind::Started
        } else if memmem::find(data, b".delta\"").is_some() {
            Kind::Delta
        } else if says("error") {
            Kind::Error
        } else {
            Kind::Other
        };
    }
    match name {
        "response.created" => Kind::Started,
        "error" => Kind::Error,
        _ if FINAL.contains(&name) => Kind::Final,
        _ if name.rsplit('.').next() == Some("delta") => Kind::Delta,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: AnswerHead<'_> = AnswerHead { status: 200, content_type: "text/event-stream" };

    fn read(facts: &RequestFacts, body: &str, step: usize, end: BodyEnd) -> Reading {
        let mut r = reader(facts, HEAD);
        body.as_bytes().chunks(step).for_each(|c| r.feed(c));
        r.finish(end)
    }

    const BODY: &str = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-5\",\"usage\":null}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hello\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-5-2025-08-07\",",
        "\"service_tier\":\"flex\",\"status\":\"completed\",\"output\":[{\"type\":\"web_search_call\",\"action\":{\"type\":\"search\"}},",
        "{\"type\":\"web_search_call\",\"action\":{\"type\":\"open_page\"}}],\"usage\":{\"input_tokens\":30,",
        "\"input_tokens_details\":{\"cached_tokens\":10},\"output_tokens\":9,\"output_tokens_details\":{\"reasoning_tokens\":4}}}}\n\n",
    );

    #[test]
    fn the_final_event_says_usage_tier_and_searches() {
        let facts = request(true, br#"{"model":"gpt-5","stream":true,"max_output_tokens":50}"#).unwrap();
        for step in [1, 7, 10_000] {
            let got = read(&facts, BODY, step, BodyEnd::Complete);
            assert_eq!(got.quality, Quality::Exact);
            assert_eq!(got.model.as_deref(), Some("gpt-5-2025-08-07"));
            assert_eq!(got.service_tier.as_deref(), Some("flex"));
            assert_eq!((got.usage.input_uncached, got.usage.cache_read, got.usage.output_tokens), (20, 10, 9));
            assert_eq!(got.lines[0].web_searches, 1);
        }
    }

    #[test]
    fn a_cut_stream_of_a_reasoning_model_is_bounded_by_its_ceiling() {
        let facts = request(true, br#"{"model":"gpt-5","stream":true,"max_output_tokens":50}"#).unwrap();
        let cut = BODY.find("event: response.completed").unwrap();
        let got = read(&facts, &BODY[..cut], 11, BodyEnd::Cut);
        assert_eq!((got.quality, got.usage.output_tokens), (Quality::Estimated, 50));
    }

    #[test]
    fn a_ceiling_is_set_and_nothing_else_changes() {
        let got =
            rewrite(br#"{"model": "gpt-5","input": "x"}"#, Rewrite { ask_usage: false, ceiling: Some(9) }).unwrap();
        assert_eq!(got, br#"{"model":"gpt-5","input":"x","max_output_tokens":9}"#);
    }
}
