//! Which call a Bedrock path is, and the model that it names.

use std::ops::Range;

use crate::usage::{Billing, Endpoint, dialect::only_reads, percent::decoded};

use super::{AGENT, ASYNC, BIDIRECTIONAL, CONVERSE, CONVERSE_STREAM, COUNT_TOKENS, INVOKE, INVOKE_STREAM};

/// Segments of a path that are looked at: of the longest, and of a gateway's prefix.
const SEGMENTS_MAX: usize = 12;

/// What only describes or arranges things: tags, profiles, guardrails, prompts.
const ARRANGED: &[&str] = &["guardrails", "inference-profiles", "prompts", "tagResource", "untagResource"];

pub(super) fn endpoint(method: &str, path: &str) -> Option<Endpoint> {
    let of = |name, billing| Some(Endpoint { name, billing });
    if only_reads(method) {
        // Only the state of an ordered job can be billed; every other read is free by default.
        let job = path.split_once("/async-invoke/").is_some_and(|(_, id)| !id.is_empty());
        return if job && method.eq_ignore_ascii_case("GET") { of(ASYNC, Billing::Result) } else { None };
    }
    if path.contains("/model/") {
        return match path.rsplit('/').next().unwrap_or("") {
            "converse" => of(CONVERSE, Billing::Metered),
            "converse-stream" => of(CONVERSE_STREAM, Billing::Metered),
            "invoke" => of(INVOKE, Billing::Metered),
            "invoke-with-response-stream" => of(INVOKE_STREAM, Billing::Metered),
            // Its request does not end before its answer begins, so nothing of it is known before.
            "invoke-with-bidirectional-stream" => of(BIDIRECTIONAL, Billing::Unknown),
            "count-tokens" => of(COUNT_TOKENS, Billing::Free),
            _ => None,
        };
    }
    // These names are common words: only the whole path tells that they are Bedrock's.
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).take(SEGMENTS_MAX).collect();
    match segments.as_slice() {
        ["guardrail", _, "version", _, "apply"] => of("apply_guardrail", Billing::Unknown),
        ["async-invoke"] => of(ASYNC, Billing::Metered),
        // The models' list, as some clients ask for it.
        [.., "openai", "v1", "models"] | ["v1", "models"] => of("models", Billing::Free),
        ["agents", _] | [.., "agents", _, "agentAliases", _, "sessions", _, "text"] => of(AGENT, Billing::Metered),
        ["retrieveAndGenerate" | "retrieveAndGenerateStream"] | ["knowledgebases", _, "retrieve"] => {
            of("retrieve_and_generate", Billing::Unknown)
        }
        ["flows", _, "aliases", _, ..] => of("invoke_flow", Billing::Unknown),
        ["optimize-prompt"] => of("optimize_prompt", Billing::Unknown),
        ["generateQuery"] => of("generate_query", Billing::Unknown),
        ["model-invocation-job"] => of("model_invocation_job", Billing::Unknown),
        ["model-invocation-job", _, "stop"] => of("model_invocation_job", Billing::Free),
        [first, ..] if ARRANGED.contains(first) => of("arrangements", Billing::Free),
        _ => None,
    }
}

/// The model as the path names it, decoded: `us.amazon.nova-pro-v1:0`, or an ARN, which may have slashes of its own.
pub(super) fn model(path: &str) -> Option<String> {
    model_place(path).map(|place| decoded(&path[place]))
}

/// Where the path names the model.
pub(super) fn model_place(path: &str) -> Option<Range<usize>> {
    const BEFORE: &str = "/model/";
    let start = path.find(BEFORE)? + BEFORE.len();
    let length = path[start..].trim_end_matches('/').rfind('/')?;
    (length > 0).then_some(start..start + length)
}
