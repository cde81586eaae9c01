//! Embeddings, and Vertex's `predict`: embeddings by their statistics, images by their number.
//!
//! Input only. `embedContent` and `batchEmbedContents` of older models say no usage; theirs is bounded by the
//! request. `predict` states the tokens of each prediction and the characters of all.
//!
//! Source: ai.google.dev/api/embeddings and the Vertex AI text embeddings and Imagen references.

use serde::{Deserialize, de::IgnoredAny};

use super::{
    request::{ENVELOPE, FRAMING_TOKENS, part},
    usage::UsageMetadata,
};
use crate::usage::{
    BodyEnd, Quality, Quantity, Reader, Reading, RequestFacts, Unreadable, Usage,
    edit::RawObject,
    estimate::Bounds,
    json::{Count, or_default, parse},
    media::{InputBound, scan},
    read::JsonReader,
};

/// Images of one Imagen request that states no number: the most that the API makes.
const IMAGES_MAX: u64 = 4;

pub(super) fn facts(model: Option<String>, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let mut facts = RequestFacts { model, choices: 1, no_output: true, ..RequestFacts::default() };
    let mut bound = InputBound::default();
    bound.add(FRAMING_TOKENS);
    let text = scan(body, &ENVELOPE, &mut |node| part(node, &mut bound, &mut facts))?;
    facts.input_bound = bound.tokens(text);
    Ok(facts)
}

pub(super) fn reader(facts: &RequestFacts, model: Option<String>) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end| {
        let answer: Option<Embedding> = body.and_then(parse);
        match answer.and_then(|a| a.usage_metadata).filter(UsageMetadata::counts) {
            Some(metadata) => metadata.describe().reading(model, Quality::Exact),
            None => bounds.reading(model, 0, end),
        }
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Embedding {
    #[serde(default, alias = "usage_metadata")]
    usage_metadata: Option<UsageMetadata>,
}

pub(super) fn predict_facts(model: Option<String>, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let mut facts = facts(model, body)?;
    if facts.model.as_deref().is_some_and(|m| m.starts_with("imagen") || m.starts_with("imagegeneration")) {
        let parameters = RawObject::parse(object.get("parameters").unwrap_or("{}").as_bytes())?;
        let images = parameters.count("sampleCount").unwrap_or(IMAGES_MAX);
        facts.units.insert("images".into(), Quantity::whole(images));
        facts.variant = parameters.text("sampleImageSize");
    }
    Ok(facts)
}

pub(super) fn predict_reader(model: Option<String>) -> Box<dyn Reader> {
    Box::new(JsonReader::new(move |body: Option<&[u8]>, _: BodyEnd| {
        let reading = body.and_then(parse::<Predictions>).map_or_else(Reading::absent, Predictions::reading);
        Reading { model, ..reading }
    }))
}

#[derive(Deserialize)]
struct Predictions {
    #[serde(default, deserialize_with = "or_default")]
    predictions: Vec<Prediction>,
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Prediction {
    embeddings: Option<Embeddings>,
    bytes_base64_encoded: Option<IgnoredAny>,
    gcs_uri: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Embeddings {
    statistics: Statistics,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Statistics {
    token_count: Count,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    billable_character_count: Count,
}

impl Predictions {
    fn reading(self) -> Reading {
        let counts = || self.predictions.iter().filter_map(|p| p.embeddings.as_ref()?.statistics.token_count.0);
        let images = self.predictions.iter().filter(|p| p.bytes_base64_encoded.is_some() || p.gcs_uri.is_some());
        let images = images.count() as u64;
        let characters = self.metadata.billable_character_count.0;
        let mut reading = if counts().next().is_some() {
            let tokens = counts().fold(0, u64::saturating_add);
            let usage = Usage { input_tokens: tokens, input_uncached: tokens, ..Usage::default() };
            Reading::of(Quality::Exact, usage)
        } else if images > 0 || characters.is_some() {
            Reading::of(Quality::Estimated, Usage::default())
        } else {
            // A model of the user's own, which is paid by the hour, or one that says nothing.
            return Reading::absent();
        };
        if images > 0 {
            reading.units.insert("images".into(), Quantity::whole(images));
        }
        if let Some(characters) = characters {
            reading.units.insert("billable_characters".into(), Quantity::whole(characters));
        }
        reading
    }
}
