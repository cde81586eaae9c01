//! Which of the calls beyond chat a path is, and who reads it: looks at responses, images, audio, threads, batches,
//! files and sockets.
//!
//! Paths are matched from their end, so that any prefix fits, and by the ids in them where a word alone would be too
//! common. What is not matched here is the rest of the dialect's.

use super::{audio, batches, images, ocr, realtime, responses, threads};
use crate::usage::{
    AnswerHead, Billing, Call, Endpoint, Reader, RequestFacts, SocketReader, Unreadable, dialect::only_reads,
};

const LOOK: &str = "responses_get";
const CANCEL: &str = "responses_cancel";
const RESPONSES_SOCKET: &str = "responses_ws";
const REALTIME: &str = "realtime_ws";
const GENERATIONS: &str = "images_generations";
const EDITS: &str = "images_edits";
const VARIATIONS: &str = "images_variations";
const SPEECH: &str = "audio_speech";
const TRANSCRIPTIONS: &str = "audio_transcriptions";
const TRANSLATIONS: &str = "audio_translations";
const OCR: &str = "ocr";
const THREADS: &str = "threads";
const BATCHES: &str = "batches";
const FILES: &str = "files";

pub(crate) fn endpoint(method: &str, path: &str) -> Option<Endpoint> {
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    let mut next = || segments.next().unwrap_or("");
    let [last, before, above, top] = [next(), next(), next(), next()];
    let of = |name, billing| Some(Endpoint { name, billing });
    if method.eq_ignore_ascii_case("GET") {
        return match (above, before, last) {
            (_, _, "responses") => of(RESPONSES_SOCKET, Billing::Socket),
            (_, _, "realtime") => of(REALTIME, Billing::Socket),
            (_, "responses", _) => of(LOOK, Billing::Result),
            (thread, "runs", _) if is_thread(thread) => of(THREADS, Billing::Result),
            ("files", _, "content") => of(FILES, Billing::Result),
            // Of Anthropic's batches the results are another dialect's.
            ("batches", _, "results") if top != "messages" => of(BATCHES, Billing::Result),
            _ => None,
        };
    }
    if only_reads(method) || !method.eq_ignore_ascii_case("POST") {
        return None;
    }
    match (above, before, last) {
        ("responses", _, "cancel") => of(CANCEL, Billing::Result),
        ("runs", _, "cancel") => of(THREADS, Billing::Result),
        ("runs", _, "submit_tool_outputs") | (_, "threads", "runs") => of(THREADS, Billing::Metered),
        (_, thread, "runs") if is_thread(thread) => of(THREADS, Billing::Metered),
        (_, thread, "messages") if is_thread(thread) && above == "threads" => of(THREADS, Billing::Free),
        (_, "threads", thread) if is_thread(thread) => of(THREADS, Billing::Free),
        (thread, "runs" | "messages", _) if is_thread(thread) => of(THREADS, Billing::Free),
        (_, _, "threads") => of(THREADS, Billing::Free),
        (_, _, "assistants") => of("assistants", Billing::Free),
        (_, "assistants", id) if id.starts_with("asst_") => of("assistants", Billing::Free),
        (_, "images", "generations") | (_, "image", "generate") | (_, _, "images") => of(GENERATIONS, Billing::Metered),
        (_, "images", "edits") => of(EDITS, Billing::Metered),
        (_, "images", "variations") => of(VARIATIONS, Billing::Metered),
        (_, "audio", "speech") | (_, _, "tts") => of(SPEECH, Billing::Metered),
        (_, "audio", "transcriptions") => of(TRANSCRIPTIONS, Billing::Metered),
        (_, "audio", "translations") => of(TRANSLATIONS, Billing::Metered),
        (_, _, "ocr") => of(OCR, Billing::Metered),
        (_, before, "batches") if before != "messages" => of(BATCHES, Billing::Free),
        (_, "batch", "jobs") | ("batches", _, "requests") => of(BATCHES, Billing::Free),
        (_, "realtime", "sessions" | "client_secrets" | "transcription_sessions") => of("realtime", Billing::Free),
        _ => None,
    }
}

fn is_thread(id: &str) -> bool {
    id.starts_with("thread_")
}

/// `None`: the call is not one of these.
pub(super) fn request(call: &Call<'_>, body: &[u8]) -> Option<Result<RequestFacts, Unreadable>> {
    Some(match call.endpoint.name {
        GENERATIONS | EDITS | VARIATIONS => images::request(call, body),
        SPEECH => audio::speech_request(call, body),
        TRANSCRIPTIONS | TRANSLATIONS => audio::transcription_request(call, body),
        OCR => ocr::request(call, body),
        THREADS => threads::request(body),
        LOOK | CANCEL | BATCHES | FILES => Ok(RequestFacts { choices: 1, ..RequestFacts::default() }),
        _ => return None,
    })
}

/// `None`: the call is not one of these.
pub(super) fn reader(call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Option<Box<dyn Reader>> {
    Some(match (call.endpoint.name, call.endpoint.billing) {
        (LOOK | CANCEL, _) => responses::look(call, facts, head),
        (GENERATIONS | EDITS | VARIATIONS, _) => images::reader(facts, head),
        (SPEECH, _) => audio::speech(facts, head),
        (TRANSCRIPTIONS | TRANSLATIONS, _) => audio::transcription(facts, head),
        (OCR, _) => ocr::reader(facts),
        (THREADS, Billing::Metered | Billing::Result) => threads::reader(call, facts, head),
        (FILES, Billing::Result) => batches::file_reader(call),
        (BATCHES, Billing::Result) => batches::page_reader(call),
        _ => return None,
    })
}

pub(super) fn socket(call: &Call<'_>) -> Option<Box<dyn SocketReader>> {
    match call.endpoint.name {
        REALTIME => Some(realtime::socket(call)),
        RESPONSES_SOCKET => Some(responses::socket()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_beyond_chat_are_known_behind_any_prefix() {
        for (method, path, name, billing) in [
            ("GET", "/v1/responses/resp_1", LOOK, Billing::Result),
            ("POST", "/openai/v1/responses/resp_1/cancel", CANCEL, Billing::Result),
            ("GET", "/v1/responses", RESPONSES_SOCKET, Billing::Socket),
            ("GET", "/voice-live/realtime", REALTIME, Billing::Socket),
            ("POST", "/v1/realtime/client_secrets", "realtime", Billing::Free),
            ("POST", "/openai/deployments/x/images/generations", GENERATIONS, Billing::Metered),
            ("POST", "/api/v1/images", GENERATIONS, Billing::Metered),
            ("POST", "/api/v1/image/generate", GENERATIONS, Billing::Metered),
            ("POST", "/v1/images/edits", EDITS, Billing::Metered),
            ("POST", "/v1/audio/speech", SPEECH, Billing::Metered),
            ("POST", "/v1/tts", SPEECH, Billing::Metered),
            ("POST", "/openai/v1/audio/translations", TRANSLATIONS, Billing::Metered),
            ("POST", "/v1/ocr", OCR, Billing::Metered),
            ("POST", "/v1/threads", THREADS, Billing::Free),
            ("POST", "/v1/threads/thread_1", THREADS, Billing::Free),
            ("POST", "/v1/threads/thread_1/messages", THREADS, Billing::Free),
            ("POST", "/v1/threads/runs", THREADS, Billing::Metered),
            ("POST", "/v1/threads/thread_1/runs", THREADS, Billing::Metered),
            ("POST", "/v1/threads/thread_1/runs/run_1", THREADS, Billing::Free),
            ("POST", "/v1/threads/thread_1/runs/run_1/submit_tool_outputs", THREADS, Billing::Metered),
            ("POST", "/v1/threads/thread_1/runs/run_1/cancel", THREADS, Billing::Result),
            ("GET", "/v1/threads/thread_1/runs/run_1", THREADS, Billing::Result),
            ("GET", "/v1/files/file-1/content", FILES, Billing::Result),
            ("POST", "/v1/batches", BATCHES, Billing::Free),
            ("POST", "/v1/batch/jobs", BATCHES, Billing::Free),
            ("POST", "/v1/batches/batch_1/requests", BATCHES, Billing::Free),
            ("GET", "/v1/batches/batch_1/results", BATCHES, Billing::Result),
        ] {
            assert_eq!(endpoint(method, path), Some(Endpoint { name, billing }), "{method} {path}");
        }
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for (method, path) in [
            ("GET", "/v1/responses/resp_1/input_items"),
            ("GET", "/v1/threads/thread_1/runs/run_1/steps"),
            ("GET", "/v1/threads/thread_1/runs"),
            ("GET", "/v1/messages/batches/b_1/results"),
            ("GET", "/v1/files/file-1"),
            ("POST", "/v1/messages/batches"),
            ("POST", "/v1/threads/other/messages"),
            ("POST", "/v1/messages"),
            ("POST", "/v1/videos"),
            ("DELETE", "/v1/responses/resp_1"),
            ("PUT", "/v1/threads"),
        ] {
            assert_eq!(endpoint(method, path), None, "{method} {path}");
        }
    }
}
