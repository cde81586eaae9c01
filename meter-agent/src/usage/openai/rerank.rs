//! Rerank: `POST .../rerank`, as Voyage, Jina, llama.cpp, vLLM and OpenRouter answer it. Input only, in one document.
//!
//! The query is read again with each document. The answer says its usage as Embeddings does.

use bytes::Bytes;

pub(super) use super::embeddings::reader;
use super::{embeddings::items, fallback::kept_text, model_of};
use crate::usage::{Call, RequestFacts, Unreadable, edit::RawObject};

/// Around a query and a document: marks of beginning, end and between, or a template of a few sentences.
const PAIR_TOKENS: u64 = 128;

pub(super) fn request(call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let documents = items(["documents", "texts"].iter().find_map(|name| object.get(name)));
    let query = object.get("query").map_or(0, |query| query.len() as u64);
    let pairs = query.saturating_add(PAIR_TOKENS).saturating_mul(documents);
    Ok(RequestFacts {
        model: model_of(call, &object),
        input_bound: (body.len() as u64).saturating_add(pairs),
        choices: 1,
        no_output: true,
        // One query counted once would be too little, so an answer without usage takes the whole bound.
        text: kept_text(body).filter(|_| documents <= 1),
        ..RequestFacts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{AnswerHead, Billing, BodyEnd, Endpoint, Quality, Quantity, Reading};

    const CALL: Call<'_> = Call::new(Endpoint { name: "rerank", billing: Billing::Metered }, "/v1/rerank");
    const ASKED: &[u8] = br#"{"model":"rerank-2.5-lite","query":"what is it","documents":["a","b","c"]}"#;

    fn read(body: &str) -> Reading {
        let facts = request(&CALL, &Bytes::from_static(ASKED)).unwrap();
        let mut reader = reader(&CALL, &facts, AnswerHead::new(200, "application/json"));
        reader.feed(body.as_bytes());
        reader.finish(BodyEnd::Complete)
    }

    #[test]
    fn tokens_are_read_in_either_spelling() {
        for body in [r#"{"usage":{"total_tokens":43}}"#, r#"{"usage":{"prompt_tokens":43,"total_tokens":43}}"#] {
            let got = read(body);
            assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 43, 0));
        }
    }

    #[test]
    fn search_units_are_read_where_they_are_billed() {
        let got = read(r#"{"results":[],"meta":{"billed_units":{"search_units":1}}}"#);
        assert_eq!((got.quality, got.units.get("search_units")), (Quality::Exact, Some(&Quantity::whole(1))));
    }

    #[test]
    fn the_query_is_bounded_once_per_document() {
        let facts = request(&CALL, &Bytes::from_static(ASKED)).unwrap();
        assert_eq!(facts.input_bound, ASKED.len() as u64 + 3 * (12 + PAIR_TOKENS));
        let got = read(r#"{"results":[]}"#);
        assert_eq!((got.quality, got.usage.input_tokens), (Quality::Estimated, facts.input_bound));
    }
}
