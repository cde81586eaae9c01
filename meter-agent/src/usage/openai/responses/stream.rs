//! The events of a response, from a stream or a socket.
//!
//! Only the first, the last and the finished tool calls are decoded; of the others their bytes count.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    answer::{Answer, Context, Role},
    tools::{self, Item},
};
use crate::usage::{
    BodyEnd, Reading, Tools,
    delivered::Delivered,
    json::{parse, text},
    read::{Events, leading_type},
};

/// How the types of the items that tools may have been run for end.
static CALL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"_call\""));

/// How the types of the pieces of a sound end.
static SOUND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"audio.delta\""));

#[derive(Deserialize)]
struct OfResponse {
    response: Answer,
}

#[derive(Deserialize)]
struct OfItem {
    item: Item,
}

/// An event's own members.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    error: Option<IgnoredAny>,
}

/// A response as its events have told it so far.
#[derive(Default)]
pub(super) struct Stream {
    context: Context,
    id: Option<String>,
    model: Option<String>,
    last: Option<Answer>,
    tools: Tools,
    failed: bool,
    delivered: Delivered,
}

impl Stream {
    pub(super) fn new(context: Context) -> Self {
        Self { context, ..Self::default() }
    }

    /// Whether the response has ended.
    pub(super) fn is_over(&self) -> bool {
        self.last.is_some() || self.failed
    }
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        match kind(name, data) {
            Kind::Final => {
                if let Some(event) = parse::<OfResponse>(data) {
                    self.last = Some(event.response);
                }
            }
            Kind::Started => {
                let Some(event) = parse::<OfResponse>(data) else { return };
                if event.response.background == Some(true) {
                    self.context.role = std::mem::take(&mut self.context.role).in_background();
                }
                self.id = event.response.id.or(self.id.take());
                self.model = event.response.model.or(self.model.take());
            }
            Kind::Item if CALL.find(data).is_some() => {
                let item: Option<OfItem> = parse(data);
                tools::count(item.iter().map(|event| &event.item), &mut self.tools);
            }
            Kind::Error => self.failed = true,
            Kind::Delta => {
                self.context.visible_bytes = self.context.visible_bytes.saturating_add(data.len() as u64);
                // Of a sound the bytes say nothing of its tokens.
                if SOUND.find(data).is_none() {
                    self.delivered.event(data);
                }
            }
            Kind::Item | Kind::Other => {}
        }
    }

    fn so_far(&self) -> Option<Reading> {
        let model = self.model.clone().or_else(|| self.context.asked_model.clone());
        let made_now = self.last.is_none() && self.context.role == Role::Made;
        let reading = made_now.then(|| self.context.bounds.so_far(model, self.delivered.tokens()))?;
        Some(Reading { server_tools: self.tools.clone(), ..reading })
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let context = std::mem::take(&mut self.context);
        let tools = std::mem::take(&mut self.tools);
        let model = self.model.take().or_else(|| context.asked_model.clone());
        let reading = match self.last.take() {
            Some(mut answer) => {
                answer.id = answer.id.or(self.id.take());
                answer.model = answer.model.or(model);
                return answer.reading(context, tools, end);
            }
            None if dropped > 0 => Reading::absent(),
            None if self.failed && context.visible_bytes == 0 => Reading::free("the stream holds an error alone"),
            None => context.role.unfinished(self.id.take(), context.bounds, context.visible_bytes, end),
        };
        Reading { model, server_tools: tools, ..reading }
    }
}

enum Kind {
    Started,
    Item,
    Delta,
    Final,
    Error,
    Other,
}

/// By the event's name, else by the `type` in its data.
fn kind(name: &str, data: &[u8]) -> Kind {
    // A gateway may name its events in a way of its own.
    if name == "error" || name.starts_with("response.") {
        return named(name);
    }
    if let Some(kind) = leading_type(data) {
        return named(kind);
    }
    let head: Head = parse(data).unwrap_or_default();
    match head.kind.as_deref() {
        Some(kind) => named(kind),
        None if head.error.is_some() => Kind::Error,
        None => Kind::Other,
    }
}

fn named(kind: &str) -> Kind {
    match kind {
        "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => Kind::Final,
        "response.created" | "response.queued" | "response.in_progress" => Kind::Started,
        "response.output_item.done" => Kind::Item,
        "error" => Kind::Error,
        "delta" => Kind::Delta,
        _ if kind.as_bytes().ends_with(b".delta") => Kind::Delta,
        _ => Kind::Other,
    }
}
