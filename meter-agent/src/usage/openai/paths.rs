//! Which call a path of this API is, and how it is billed.
//!
//! What costs is in [`CALLS`] and in [`beyond`]; what is known to be free is named here. A path that is neither is
//! unknown, never free.

use super::{CALLS, FINE_TUNING, OTHER, beyond};
use crate::usage::{Billing, Endpoint};

/// POSTs that cost nothing, by the ends of their paths.
static FREE: &[(&str, &str)] = &[
    ("responses/input_tokens", "responses_count_tokens"),
    ("models", "models"),
    ("moderations", "moderations"),
    ("tokenize", "tokenize"),
    ("tokenize-text", "tokenize"),
    ("detokenize", "tokenize"),
    ("fine_tuning/jobs/*/pause", FINE_TUNING),
    ("fine_tuning/jobs/*/resume", FINE_TUNING),
    ("uploads/*/complete", "uploads"),
];

/// Classifies by the path's end, so that any prefix (`/v1`, `/openai/v1`, `/api/v1`, a deployment) fits.
pub(crate) fn endpoint(method: &str, path: &str) -> Option<Endpoint> {
    if let Some(found) = beyond::endpoint(method, path) {
        return Some(found);
    }
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    let last = segments.next().unwrap_or("");
    let before = segments.next().unwrap_or("");
    let above = segments.next().unwrap_or("");
    let of = |name, billing| (name != OTHER).then_some(Endpoint { name, billing });
    if !method.eq_ignore_ascii_case("POST") {
        return of(section(path), reading(method));
    }
    if let Some(call) = CALLS.iter().find(|call| call.ends.iter().any(|end| ends_in(path, end))) {
        return of(call.name, Billing::Metered);
    }
    if let Some((_, name)) = FREE.iter().find(|(end, _)| ends_in(path, end)) {
        return of(name, Billing::Free);
    }
    match (before, last) {
        (_, "cancel") if CANCELLED.contains(&above) => of(section(path), Billing::Free),
        // Changing the metadata of a stored completion.
        ("completions", id) if above == "chat" && id.starts_with("chatcmpl") => of("chat", Billing::Free),
        // Stores are billed by size and time, a search in one perhaps by itself.
        (_, "search") if above == "vector_stores" => of("vector_stores", Billing::Unknown),
        // The part nearest to the end decides: a prefix of the host's own may be called as one of them.
        _ => match part(path.rsplit('/')) {
            name @ ("files" | "uploads" | "conversations" | "org_admin" | "assistants" | "vector_stores") => {
                of(name, Billing::Free)
            }
            _ => of(section(path), Billing::Unknown),
        },
    }
}

/// Whether the path's last segments are those of `end`; a `*` is any one.
fn ends_in(path: &str, end: &str) -> bool {
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    end.rsplit('/').all(|wanted| segments.next().is_some_and(|s| wanted == "*" || s == wanted))
}

/// Calls other than POST. Those that read or delete cost nothing.
fn reading(method: &str) -> Billing {
    let reads = ["GET", "HEAD", "OPTIONS", "DELETE"].iter().any(|m| method.eq_ignore_ascii_case(m));
    if reads { Billing::Free } else { Billing::Unknown }
}

/// What can be cancelled, which costs nothing by itself.
const CANCELLED: [&str; 6] = ["responses", "batches", "uploads", "runs", "jobs", "file_batches"];

/// The part of the API that a path belongs to, for the ledger.
fn section(path: &str) -> &'static str {
    part(path.split('/'))
}

/// The first segment that names a part of the API.
fn part<'a>(mut segments: impl Iterator<Item = &'a str>) -> &'static str {
    const SECTIONS: &[&str] = &[
        "models",
        "files",
        "uploads",
        "conversations",
        "organization",
        "batches",
        "fine_tuning",
        "assistants",
        "threads",
        "vector_stores",
        "images",
        "audio",
        "videos",
        "realtime",
        "evals",
        "containers",
        "responses",
        "chat",
        "completions",
        "embeddings",
        "moderations",
    ];
    let named = segments.find_map(|s| SECTIONS.iter().copied().find(|known| *known == s)).unwrap_or(OTHER);
    if named == "organization" { "org_admin" } else { named }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CHAT, COMPLETIONS, EMBEDDINGS, OpenAi, RERANK, RESPONSES},
        *,
    };
    use crate::usage::detect;

    #[test]
    fn calls_are_known_behind_any_prefix() {
        for (method, path, name, billing) in [
            ("POST", "/v1/chat/completions", CHAT, Billing::Metered),
            ("POST", "/openai/deployments/x/chat/completions", CHAT, Billing::Metered),
            ("POST", "/api/v1/responses", RESPONSES, Billing::Metered),
            ("POST", "/v1/responses/", RESPONSES, Billing::Metered),
            ("POST", "/v1/embeddings", EMBEDDINGS, Billing::Metered),
            ("POST", "/v1/responses/input_tokens", "responses_count_tokens", Billing::Free),
            ("POST", "/v1/responses/resp_1/cancel", "responses_cancel", Billing::Result),
            ("GET", "/v1/responses/resp_1", "responses_get", Billing::Result),
            ("GET", "/v1/responses", "responses_ws", Billing::Socket),
            ("GET", "/v1/realtime", "realtime_ws", Billing::Socket),
            ("GET", "/v1/models", "models", Billing::Free),
            ("POST", "/v1/moderations", "moderations", Billing::Free),
            ("POST", "/v1/images/generations", "images_generations", Billing::Metered),
            ("POST", "/v1/videos", "videos", Billing::Unknown),
            ("POST", "/v1/something/new", "other", Billing::Unknown),
            ("PUT", "/v1/models", "models", Billing::Unknown),
            ("POST", "/v1/files", "files", Billing::Free),
            ("POST", "/v1/uploads/upload_1/complete", "uploads", Billing::Free),
            ("POST", "/v1/batches/batch_1/cancel", "batches", Billing::Free),
            ("POST", "/v1/chat/completions/chatcmpl-1", "chat", Billing::Free),
            ("POST", "/models/some-model/v1/completions", COMPLETIONS, Billing::Metered),
            ("POST", "/v1/prompts/pp-1/completions", COMPLETIONS, Billing::Metered),
            ("POST", "//openai/deployments/x/completions", COMPLETIONS, Billing::Metered),
            ("POST", "/api/v1/rerank", RERANK, Billing::Metered),
            ("POST", "/v1/models", "models", Billing::Free),
            ("POST", "/v1/fine_tuning/jobs", FINE_TUNING, Billing::Metered),
            ("POST", "/v1/fine_tuning/jobs/ftjob-1/cancel", FINE_TUNING, Billing::Free),
            ("POST", "/v1/fine_tuning/jobs/ftjob-1/pause", FINE_TUNING, Billing::Free),
            ("POST", "/v1/fine_tuning/alpha/graders/run", FINE_TUNING, Billing::Unknown),
            ("GET", "/v1/organization/usage/completions", "org_admin", Billing::Free),
            ("POST", "/v1/vector_stores", "vector_stores", Billing::Free),
            ("POST", "/v1/vector_stores/vs_1/search", "vector_stores", Billing::Unknown),
            ("POST", "/v1/assistants/asst_1", "assistants", Billing::Free),
            ("POST", "/v1/tokenize", "tokenize", Billing::Free),
        ] {
            let (_, found) = detect(Some(&OpenAi), method, path);
            assert_eq!(found, Endpoint { name, billing }, "{method} {path}");
        }
    }

    #[test]
    fn a_call_is_not_free_for_a_segment_that_only_looks_like_a_free_one() {
        for path in [
            "/files/images/inpaintings",
            "/v1/chat/%63ompletions",
            "/v1/chat/completions/.",
            "/v1/generate/cancel",
            "/publishers/openai/models/x:generateContent",
        ] {
            assert_eq!(detect(Some(&OpenAi), "POST", path).1.billing, Billing::Unknown, "{path}");
        }
    }
}
