//! Responses: `POST .../responses`, `.../responses/compact`, and later looks at a response by its id.
//!
//! `input_tokens` includes cached and cache-write tokens, `output_tokens` includes reasoning. A stream says its
//! usage in its last event. A background response answers before it has run: the usage comes with a later look, and
//! is billed at the first one that shows it. Over a WebSocket each `response.create` is a turn with the same events.
//!
//! Sources: the Responses reference at developers.openai.com/api/reference, the "Background mode" and "WebSocket mode"
//! guides there.

mod answer;
mod socket;
mod stream;
pub(super) mod tools;

use self::{
    answer::{Answer, Context, Role},
    stream::Stream,
};
use super::input;
use crate::usage::{
    AnswerHead, BodyEnd, Call, Reader, Reading, RequestFacts, Rewrite, SocketReader, Tools, Unreadable,
    edit::RawObject,
    estimate::Bounds,
    fallbacks,
    json::parse,
    read::{Either, JsonReader, SseReader, is_sse},
};

pub(crate) fn request(can_clamp: bool, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let mut model = object.text("model");
    let fallbacks = fallbacks::read(&object, &mut model)?;
    let mut facts = RequestFacts {
        stream: object.is_true("stream"),
        ceiling: object.count("max_output_tokens"),
        choices: 1,
        service_tier: object.text("service_tier"),
        can_clamp,
        hidden_output: input::hides_output(model.as_deref()),
        background: object.is_true("background"),
        model,
        fallbacks,
        ..RequestFacts::default()
    };
    input::bound(&object, body, &mut facts)?;
    let names_earlier = ["previous_response_id", "conversation", "prompt"].iter().any(|name| object.has(name));
    facts.input_unbounded |= names_earlier;
    if let Some(calls) = object.count("max_tool_calls") {
        facts.tools.values_mut().for_each(|bound| *bound = calls);
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

/// The answer to the request that makes a response.
pub(crate) fn reader(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let role = if facts.background { Role::Background } else { Role::Made };
    of_role(role, facts, head)
}

/// The answer to a later look at a response, or to its cancellation: `.../responses/{id}` and `.../{id}/cancel`.
pub(super) fn look(call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let mut segments = call.path().split('/').skip_while(|segment| *segment != "responses");
    let id = segments.nth(1).unwrap_or_default().to_owned();
    let asks_stream = call.path_and_query.contains("stream=true");
    of_role(Role::Looked(id), &RequestFacts { stream: asks_stream, ..facts.clone() }, head)
}

/// Responses over a WebSocket.
pub(super) fn socket() -> Box<dyn SocketReader> {
    Box::new(socket::Socket::default())
}

fn of_role(role: Role, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let context = Context { role, bounds: Bounds::of(facts), asked_model: facts.model.clone(), visible_bytes: 0 };
    let stream = SseReader::new(Stream::new(context.clone()));
    let document = JsonReader::new(move |body: Option<&[u8]>, end| document(body, context, end));
    Either::of(is_sse(head, facts.stream), Box::new(stream), Box::new(document))
}

fn document(body: Option<&[u8]>, mut context: Context, end: BodyEnd) -> Reading {
    context.visible_bytes = body.map_or(0, |b| b.len() as u64);
    context.bounds = context.bounds.of_document(end);
    match body.map(parse::<Answer>) {
        Some(Some(answer)) => answer.reading(context, Tools::new(), end),
        Some(None) => {
            let reading = context.role.unfinished(None, context.bounds, context.visible_bytes, end);
            Reading { model: context.asked_model, ..reading }
        }
        None => Reading { model: context.asked_model, ..Reading::absent() },
    }
}

#[cfg(test)]
#[path = "responses_tests.rs"]
mod tests;
