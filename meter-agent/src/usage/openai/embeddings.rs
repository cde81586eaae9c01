//! Embeddings: `POST .../embeddings`. Input only.

use serde::Deserialize;

use super::chat::{ChatUsage, Totals};
use crate::usage::{
    BodyEnd, Quality, Reader, Reading, RequestFacts, Unreadable,
    edit::RawObject,
    estimate::Bounds,
    json::{parse, text},
    read::JsonReader,
};

pub(crate) fn request(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    Ok(RequestFacts {
        model: object.text("model"),
        // Inputs given as token numbers are at least two bytes each.
        input_bound: body.len() as u64,
        choices: 1,
        no_output: true,
        ..RequestFacts::default()
    })
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default)]
    usage: Option<ChatUsage>,
}

pub(crate) fn reader(facts: &RequestFacts) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end: BodyEnd| {
        let answer: Option<Answer> = body.and_then(parse);
        let (model, usage) = answer.map_or((None, None), |a| (a.model, a.usage));
        match usage {
            Some(usage) => Reading { model, ..Reading::of(Quality::Exact, usage.usage(Totals::Plain)) },
            None => bounds.reading(model, 0, end),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_read_and_nothing_else() {
        let facts = request(br#"{"model":"text-embedding-3-small","input":"hi"}"#).unwrap();
        assert!(facts.no_output && !facts.can_clamp);
        let mut r = reader(&facts);
        r.feed(br#"{"data":[{"embedding":[0.1]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":2,"total_tokens":2}}"#);
        let reading = r.finish(BodyEnd::Complete);
        assert_eq!((reading.usage.input_tokens, reading.usage.output_tokens), (2, 0));
        assert_eq!(reading.quality, Quality::Exact);
        assert_eq!(reader(&facts).finish(BodyEnd::Cut).quality, Quality::Estimated);
    }
}
