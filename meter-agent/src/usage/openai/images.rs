//! Images: `POST .../images/{generations,edits,variations}`, `.../images` and `.../image/generate` of gateways.
//!
//! Models that state tokens (`gpt-image-*` and those behind gateways) are exact; the others are priced by the image,
//! its quality and its size, which the request says and the answer counts: estimated. A stream says its usage in its
//! completed event. A variation or an edit comes as a form.
//!
//! Sources: the Images reference at developers.openai.com/api/reference and its "Image generation" guide (tokens of
//! an image by quality and size), openrouter.ai/docs, docs.venice.ai, docs.x.ai.

use serde::{Deserialize, de::IgnoredAny};

use super::{
    ask::Ask,
    input,
    tokens::{Tokens, lenient},
};
use crate::usage::{
    AnswerHead, BodyEnd, Call, Quality, Quantity, Reader, Reading, RequestFacts, Units, Unreadable,
    estimate::Bounds,
    json::{or_default, parse, text},
    media::{InputBound, Node, scan},
    read::{Either, Events, JsonReader, SseReader, is_sse},
    reported::Charged,
};

/// Most tokens of one image as input: 1,097 for its tiles and 6,144 for high fidelity.
const INPUT_IMAGE_TOKENS: u64 = 7_241;

/// Most tokens of one image as output at each quality.
const OUTPUT_TOKENS: &[(&str, u64)] = &[("low", 408), ("medium", 1_584), ("high", 6_240)];

/// Tokens of one partial image of a stream.
const PARTIAL_TOKENS: u64 = 100;

/// Tokens that the provider adds around a prompt.
const FRAMING_TOKENS: u64 = 128;

/// Most images of one request.
const IMAGES_MAX: u64 = 10;

pub(super) fn request(call: &Call<'_>, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let ask = Ask::of(call, body)?;
    let model = ask.text("model").or_else(|| deployment(call.path())).or_else(|| default_model(&ask));
    let unread = matches!(ask, Ask::Unread);
    let ordered = ["n", "variants"].iter().find_map(|name| ask.count(name));
    let images = ordered.unwrap_or(if unread { IMAGES_MAX } else { 1 }).max(1);
    let mut facts = RequestFacts {
        stream: ask.is_true("stream"),
        choices: images,
        ceiling: ceiling(model.as_deref().unwrap_or(""), &ask),
        hidden_output: true,
        // They are priced by the image alone.
        no_output: model.as_deref().is_some_and(|name| name.starts_with("dall-e")),
        input_unbounded: unread,
        variant: Some(variant(&ask)),
        units: counted(images),
        model,
        ..RequestFacts::default()
    };
    facts.input_bound = input_bound(&ask, body, &mut facts)?;
    Ok(facts)
}

/// The server's own choice where a readable request names none.
fn default_model(ask: &Ask<'_>) -> Option<String> {
    (!matches!(ask, Ask::Unread)).then(|| "dall-e-2".to_owned())
}

/// Azure names the model in the path.
pub(super) fn deployment(path: &str) -> Option<String> {
    let mut segments = path.split('/').skip_while(|segment| *segment != "deployments");
    segments.nth(1).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// `quality/size`, as the price lists of images are keyed.
fn variant(ask: &Ask<'_>) -> String {
    let quality = ask.text("quality").unwrap_or_else(|| "standard".to_owned());
    let sides = || Some(format!("{}x{}", ask.count("width")?, ask.count("height")?));
    let size = ask.text("size").or_else(sides).unwrap_or_else(|| "1024x1024".to_owned());
    format!("{quality}/{size}")
}

/// Tokens of one image, where the family's tokens are published: the first models have three sizes.
fn ceiling(model: &str, ask: &Ask<'_>) -> Option<u64> {
    // Later models take any size, and of them no bound is published.
    let known = in_tokens(model) && !model.starts_with("gpt-image-2");
    let quality = ask.text("quality").unwrap_or_default();
    let most = OUTPUT_TOKENS.iter().find(|(name, _)| *name == quality).or(OUTPUT_TOKENS.last())?.1;
    let partial = ask.count("partial_images").unwrap_or(0).saturating_mul(PARTIAL_TOKENS);
    known.then(|| most.saturating_add(partial))
}

/// Whether the model's images are billed by their tokens.
fn in_tokens(model: &str) -> bool {
    ["gpt-image", "chatgpt-image"].iter().any(|family| model.starts_with(family))
}

fn input_bound(ask: &Ask<'_>, body: &[u8], facts: &mut RequestFacts) -> Result<u64, Unreadable> {
    match ask {
        Ask::Json(_) => {
            let mut bound = InputBound::default();
            bound.add(FRAMING_TOKENS);
            let text = scan(body, &input::ENVELOPE, &mut |node| linked(node, &mut bound, facts))?;
            Ok(bound.tokens(text))
        }
        Ask::Form(form) => {
            facts.input_image = form.files > 0;
            let images = form.files.saturating_mul(INPUT_IMAGE_TOKENS);
            Ok(form.text_bytes.saturating_add(images).saturating_add(FRAMING_TOKENS))
        }
        Ask::Unread => Ok(body.len() as u64),
    }
}

/// An image that the request holds or names.
fn linked(node: &Node, bound: &mut InputBound, facts: &mut RequestFacts) {
    if node.text("file_id").is_some() {
        facts.input_image = true;
        bound.add(INPUT_IMAGE_TOKENS);
    }
    for link in ["url", "image_url", "data"].iter().filter_map(|key| node.text(key)) {
        facts.input_image = true;
        if link.head.starts_with("data:") {
            bound.replace(link, INPUT_IMAGE_TOKENS);
        } else {
            bound.add(INPUT_IMAGE_TOKENS);
        }
    }
}

fn counted(images: u64) -> Units {
    Units::from([("images".into(), Quantity::whole(images))])
}

/// What the request says for the answer's reading.
#[derive(Clone, Default)]
struct Asked {
    model: Option<String>,
    variant: Option<String>,
    images: Units,
    bounds: Bounds,
    /// The model's output is counted in tokens.
    in_tokens: bool,
}

pub(super) fn reader(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let asked = Asked {
        model: facts.model.clone(),
        variant: facts.variant.clone(),
        images: facts.units.clone(),
        bounds: Bounds::of(facts),
        in_tokens: facts.model.as_deref().is_some_and(in_tokens),
    };
    let stream = SseReader::new(Stream { asked: asked.clone(), ..Stream::default() });
    let document = JsonReader::new(move |body: Option<&[u8]>, end| {
        let answer: Option<Answer> = body.and_then(parse);
        asked.reading(answer, end)
    });
    // An image itself is neither.
    if head.content_type.trim_start().starts_with("image/") {
        return Box::new(document);
    }
    Either::of(is_sse(head, facts.stream), Box::new(stream), Box::new(document))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    #[serde(deserialize_with = "or_default")]
    data: Vec<IgnoredAny>,
    /// Venice's name for `data`.
    #[serde(deserialize_with = "or_default")]
    images: Vec<IgnoredAny>,
    #[serde(deserialize_with = "text")]
    size: Option<String>,
    #[serde(deserialize_with = "text")]
    quality: Option<String>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Charged<Tokens>>,
    error: Option<IgnoredAny>,
}

impl Asked {
    fn reading(self, answer: Option<Answer>, end: BodyEnd) -> Reading {
        let Some(answer) = answer else { return self.unread(end) };
        let images = (answer.data.len() + answer.images.len()) as u64;
        if answer.error.is_some() && images == 0 && answer.usage.is_none() {
            return Reading { model: self.model, ..Reading::free("the answer holds an error alone") };
        }
        let variant = answer.quality.zip(answer.size).map(|(quality, size)| format!("{quality}/{size}"));
        let told = Reading {
            model: answer.model.or(self.model.clone()),
            variant: variant.or(self.variant.clone()),
            units: if images > 0 { counted(images) } else { self.images.clone() },
            ..Reading::nothing()
        };
        match answer.usage.filter(|u| u.usage.is_stated() || u.charge.is_some()) {
            Some(stated) => Reading { usage: tokens(&stated.usage), reported: stated.charge, ..told },
            None if self.in_tokens => self.unread(end),
            None => Reading { quality: Quality::Estimated, reason: Some(BY_THE_IMAGE), ..told },
        }
    }

    /// Nothing of the answer is known (a bare image, one that was too large or was cut): what was ordered counts.
    fn unread(self, end: BodyEnd) -> Reading {
        if self.in_tokens {
            let bound = self.bounds.reading(self.model, 0, end);
            return Reading { variant: self.variant, units: self.images, ..bound };
        }
        let known = !self.images.is_empty() && self.model.is_some();
        Reading {
            model: self.model,
            variant: self.variant,
            units: self.images,
            quality: if known { Quality::Estimated } else { Quality::Absent },
            reason: Some(BY_THE_IMAGE),
            ..Reading::nothing()
        }
    }
}

const BY_THE_IMAGE: &str = "priced by the image, which the answer does not state";

/// The first models state the output without saying that it is images.
fn tokens(stated: &Tokens) -> crate::usage::Usage {
    let mut usage = stated.usage();
    if !stated.splits_output() {
        usage.output_image = usage.output_tokens;
    }
    usage
}

/// `image_generation.completed` and `image_edit.completed`, one per image, after partial images.
#[derive(Default)]
struct Stream {
    asked: Asked,
    images: u64,
    last: Option<Answer>,
    /// The usage of all the images that were completed.
    usage: Option<Charged<Tokens>>,
    sum: crate::usage::Usage,
    failed: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    error: Option<IgnoredAny>,
}

impl Events for Stream {
    fn event(&mut self, _: &str, data: &[u8]) {
        let Some(head) = parse::<Head>(data) else { return };
        let kind = head.kind.as_deref().unwrap_or("");
        if kind == "error" || (kind.is_empty() && head.error.is_some()) {
            self.failed = true;
        } else if kind.ends_with(".completed")
            && let Some(answer) = parse::<Answer>(data)
        {
            self.images += 1;
            if let Some(stated) = answer.usage.filter(|u| u.usage.is_stated()) {
                self.sum = self.sum.plus(tokens(&stated.usage));
                self.usage = Some(stated);
            }
            self.last = Some(answer);
        }
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let mut asked = std::mem::take(&mut self.asked);
        let Some(answer) = self.last.take() else {
            if self.failed && dropped == 0 {
                return Reading { model: asked.model, ..Reading::free("the stream holds an error alone") };
            }
            return asked.unread(end);
        };
        let all_came = end == BodyEnd::Complete && dropped == 0;
        if !all_came && asked.images.values().next().is_some_and(|n| *n > Quantity::whole(self.images)) {
            return asked.unread(end);
        }
        let has_usage = self.usage.is_some();
        asked.images = counted(self.images);
        let reading = asked.reading(Some(answer), end);
        if has_usage { Reading { usage: self.sum, ..reading } } else { reading }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Billing, Endpoint};

    const JSON: AnswerHead<'_> = AnswerHead::new(200, "application/json");
    const ENDPOINT: Endpoint = Endpoint { name: "images_generations", billing: Billing::Metered };

    fn facts(body: &str) -> RequestFacts {
        request(&Call::new(ENDPOINT, "/v1/images/generations"), body.as_bytes()).unwrap()
    }

    fn read(facts: &RequestFacts, head: AnswerHead<'_>, body: &str, end: BodyEnd) -> Reading {
        let mut reader = reader(facts, head);
        body.as_bytes().chunks(7).for_each(|c| reader.feed(c));
        reader.finish(end)
    }

    #[test]
    fn stated_tokens_are_exact_and_the_output_is_images() {
        let body = r#"{"created":0,"data":[{"b64_json":"aGVsbG8="}],"quality":"low","size":"1024x1024","usage":{
            "input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":272}}"#;
        let asked = facts(r#"{"model":"gpt-image-1","prompt":"x","quality":"low"}"#);
        assert_eq!((asked.ceiling, asked.choices), (Some(408), 1));
        let got = read(&asked, JSON, body, BodyEnd::Complete);
        assert_eq!((got.quality, got.usage.input_image, got.usage.output_image), (Quality::Exact, 40, 272));
        assert_eq!((got.units["images"], got.model.as_deref()), (Quantity::whole(1), Some("gpt-image-1")));
        let lost = read(&asked, JSON, &body[..40], BodyEnd::Cut);
        assert_eq!((lost.quality, lost.usage.output_tokens), (Quality::Estimated, 408));
    }

    #[test]
    fn without_usage_the_answers_images_are_counted_at_what_was_asked() {
        let asked = facts(r#"{"model":"dall-e-3","prompt":"x","quality":"hd","size":"1024x1792","n":4}"#);
        assert_eq!(asked.units["images"], Quantity::whole(4));
        let got = read(&asked, JSON, r#"{"data":[{"url":"a"},{"url":"b"}]}"#, BodyEnd::Complete);
        assert_eq!((got.quality, got.units["images"]), (Quality::Estimated, Quantity::whole(2)));
        assert_eq!(got.variant.as_deref(), Some("hd/1024x1792"));
        let lost = read(&asked, JSON, "{\"data\":[", BodyEnd::Cut);
        assert_eq!((lost.quality, lost.units["images"]), (Quality::Estimated, Quantity::whole(4)));
        let venice = facts(r#"{"model":"m","prompt":"x","width":256,"height":512,"variants":2}"#);
        let got = read(&venice, JSON, r#"{"images":["a","b"]}"#, BodyEnd::Complete);
        assert_eq!((got.units["images"], got.variant.as_deref()), (Quantity::whole(2), Some("standard/256x512")));
    }

    #[test]
    fn a_stated_charge_is_exact_without_tokens() {
        let body = r#"{"data":[{"url":"a"}],"usage":{"cost_in_usd_ticks":700000000}}"#;
        let got = read(&facts(r#"{"model":"grok-imagine-image","prompt":"x"}"#), JSON, body, BodyEnd::Complete);
        assert_eq!((got.quality, got.reported.map(|p| p.to_string())), (Quality::Exact, Some("0.07".to_owned())));
    }

    #[test]
    fn a_streams_completed_events_are_summed() {
        let asked = facts(r#"{"model":"gpt-image-1","prompt":"x","stream":true,"partial_images":2}"#);
        assert_eq!((asked.stream, asked.ceiling), (true, Some(6_440)));
        let one = "data: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"x\"}\n\n\
            event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"usage\":{\"input_tokens\":9,\"output_tokens\":372}}\n\n";
        let head = AnswerHead::new(200, "text/event-stream");
        let got = read(&asked, head, &one.repeat(2), BodyEnd::Complete);
        assert_eq!(
            (got.quality, got.usage.output_image, got.units["images"]),
            (Quality::Exact, 744, Quantity::whole(2))
        );
        let failed = "event: error\ndata: {\"type\":\"error\",\"error\":{\"code\":\"x\"}}\n\n";
        assert!(read(&asked, head, failed, BodyEnd::Complete).reason.is_some());
        assert_eq!(read(&asked, head, &one[..40], BodyEnd::Cut).quality, Quality::Estimated);
    }

    #[test]
    fn images_that_are_sent_along_cost_their_bound_and_not_their_bytes() {
        let blob = "A".repeat(100_000);
        let body = format!(r#"{{"model":"gpt-image-1","images":[{{"image_url":"data:image/png;base64,{blob}"}}]}}"#);
        let got = facts(&body);
        assert!(got.input_image && got.input_bound < 8_000, "{}", got.input_bound);
        let unread =
            Call { content_type: "multipart/form-data; boundary=b", ..Call::new(ENDPOINT, "/v1/images/edits") };
        assert!(request(&unread, b"").unwrap().input_unbounded);
        let azure = Call::new(ENDPOINT, "/openai/deployments/dall-e-3/images/generations?api-version=1");
        assert_eq!(request(&azure, b"{\"prompt\":\"x\"}").unwrap().model.as_deref(), Some("dall-e-3"));
    }
}
