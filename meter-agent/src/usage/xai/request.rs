//! What a gRPC request to xAI says about its cost.
//!
//! A request whose message is compressed says nothing: the model's context window bounds it then.

use bytes::Bytes;

use super::{COMPACT, DEFERRED, IMAGE, SAMPLE, method};
use crate::usage::{Call, Quantity, RequestFacts, Unreadable, grpc, openai, protobuf::Fields};

/// Tokens that the provider adds around the request's own.
const FRAMING_TOKENS: u64 = 1_024;

/// Most tokens of one image.
const IMAGE_TOKENS: u64 = 8_192;

/// Calls of one tool in one request. Not a proof: the server's own bound is not stated; what is billed beyond it is
/// posted all the same.
const TOOL_CALLS: u64 = 16;

/// The tools that run at the provider, by the number of their field in `Tool`.
const TOOLS: &[(u64, &str)] = &[
    (3, "web_search"),
    (4, "x_search"),
    (5, "code_interpreter"),
    (6, "file_search"),
    (7, "mcp"),
    (8, "attachment_search"),
    (10, "image_generation"),
];

pub(super) fn facts(call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
    let unknown = RequestFacts { hidden_output: true, ..openai::unknown_request(body) };
    let Some(message) = grpc::message(body) else {
        let compressed = body.first() == Some(&1);
        return if compressed { Ok(unknown) } else { Err(Unreadable("the request is not a gRPC message".to_owned())) };
    };
    let fields = Fields::of(message);
    match (call.endpoint.name, method(call)) {
        (DEFERRED, "GetDeferredCompletion") => {
            let text = fields.bytes(1).map(Bytes::copy_from_slice);
            Ok(RequestFacts { no_output: true, text, ..RequestFacts::default() })
        }
        (SAMPLE, method) => Ok(sample(fields, method == "SampleTextStreaming", message.len())),
        (COMPACT, _) => Ok(compaction(fields, message.len())),
        (IMAGE, _) => Ok(image(fields, message.len())),
        (_, method) => Ok(chat(fields, method, message.len())),
    }
}

fn chat(fields: Fields<'_>, method: &str, len: usize) -> RequestFacts {
    let model = fields.text(2);
    let mut facts = RequestFacts {
        stream: method == "GetCompletionChunk",
        background: method == "StartDeferredCompletion",
        input_bound: (len as u64).saturating_add(FRAMING_TOKENS),
        choices: fields.number(8).max(1),
        service_tier: (fields.number(31) > 1).then(|| "priority".to_owned()),
        // The stated ceiling leaves out reasoning and tool calls.
        ceiling: Some(fields.number(7)).filter(|n| *n > 0 && !fields.has(17) && !reasons(model.as_deref())),
        hidden_output: reasons(model.as_deref()),
        // State that is kept at the provider, and live search.
        input_unbounded: fields.text(22).is_some() || fields.has(20),
        server_tools: fields.has(20),
        model,
        ..RequestFacts::default()
    };
    messages(fields, 1, &mut facts);
    for tool in fields.all(17) {
        for (number, name) in TOOLS {
            if Fields::of(tool).has(*number) {
                facts.tools.insert((*name).into(), TOOL_CALLS);
            }
        }
    }
    facts.server_tools |= !facts.tools.is_empty();
    facts.input_unbounded |= facts.server_tools;
    facts
}

/// Images and files among the messages.
fn messages(fields: Fields<'_>, number: u64, facts: &mut RequestFacts) {
    for content in fields.all(number).flat_map(|message| Fields::of(message).all(1)) {
        let content = Fields::of(content);
        if content.has(2) {
            facts.input_image = true;
            facts.input_bound = facts.input_bound.saturating_add(IMAGE_TOKENS);
        }
        if content.has(3) {
            // An attached file is searched by a tool of the provider's own.
            facts.input_image = true;
            facts.tools.insert("attachment_search".into(), TOOL_CALLS);
        }
    }
}

fn sample(fields: Fields<'_>, stream: bool, len: usize) -> RequestFacts {
    let model = fields.text(3);
    RequestFacts {
        stream,
        input_bound: (len as u64).saturating_add(FRAMING_TOKENS),
        choices: fields.number(8).max(1),
        ceiling: Some(fields.number(7)).filter(|n| *n > 0 && !reasons(model.as_deref())),
        hidden_output: reasons(model.as_deref()),
        model,
        ..RequestFacts::default()
    }
}

fn compaction(fields: Fields<'_>, len: usize) -> RequestFacts {
    let mut facts = RequestFacts {
        model: fields.text(1),
        input_bound: (len as u64).saturating_add(FRAMING_TOKENS),
        choices: 1,
        hidden_output: true,
        ..RequestFacts::default()
    };
    messages(fields, 2, &mut facts);
    facts.input_unbounded = !facts.tools.is_empty();
    facts
}

fn image(fields: Fields<'_>, len: usize) -> RequestFacts {
    let mut facts = RequestFacts {
        model: fields.text(2),
        input_bound: (len as u64).saturating_add(IMAGE_TOKENS),
        choices: 1,
        no_output: true,
        input_image: fields.has(5),
        variant: (fields.number(15) > 0).then(|| format!("{}k", fields.number(15))),
        ..RequestFacts::default()
    };
    facts.units.insert("images".into(), Quantity::whole(fields.number(3).max(1)));
    facts
}

/// Whether the model can generate what its text does not show.
fn reasons(model: Option<&str>) -> bool {
    !model.is_some_and(|m| m.contains("non-reasoning") || m.starts_with("grok-2") || m == "grok-3")
}
