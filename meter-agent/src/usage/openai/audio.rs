//! Audio: `POST .../audio/{speech,transcriptions,translations}` and xAI's `.../tts`.
//!
//! Speech answers with sound and says no usage (but for the last event of a stream): it is estimated by the
//! characters of its text, which is how most models are priced. A transcription states tokens or seconds, which are
//! exact; a verbose one at least the length of the sound; a plain text of the older models states nothing: absent.
//!
//! Sources: the Audio reference at developers.openai.com/api/reference, openrouter.ai/docs, docs.x.ai, docs.mistral.ai.

use serde::{Deserialize, de::IgnoredAny};

use super::{
    ask::Ask,
    images::deployment,
    tokens::{Tokens, lenient, seconds},
};
use crate::usage::{
    AnswerHead, BodyEnd, Call, Quality, Quantity, Reader, Reading, RequestFacts, Units, Unreadable,
    json::{parse, text},
    read::{Either, Events, JsonReader, SseReader, is_sse},
    reported::Charged,
};

/// Sound has at least this many bytes a second: 6 kbit/s is the lowest rate of the speech codecs accepted.
const BYTES_PER_SECOND: u64 = 750;

/// Sound has at least this many bytes per token, at 32 tokens a second.
const BYTES_PER_TOKEN: u64 = 16;

/// Longest transcript of the models that are billed by tokens.
const TRANSCRIPT_TOKENS: u64 = 2_000;

/// Most tokens of speech per character, where speech is billed by them: 21 a second, and four characters a second at
/// the slowest. [`FRAMING_TOKENS`] stand for pauses.
const SPEECH_TOKENS: u64 = 8;

/// Tokens that the provider adds around a prompt.
const FRAMING_TOKENS: u64 = 128;

pub(super) fn speech_request(call: &Call<'_>, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let ask = Ask::of(call, body)?;
    let said = ["input", "text"].iter().find_map(|name| ask.text(name));
    let characters = said.as_ref().map(|text| text.chars().count() as u64);
    let model = ask.text("model").or_else(|| deployment(call.path()));
    let in_tokens = model.as_deref().is_some_and(is_in_tokens);
    Ok(RequestFacts {
        no_output: model.is_some() && !in_tokens,
        ceiling: characters.filter(|_| in_tokens).map(|n| n.saturating_mul(SPEECH_TOKENS) + FRAMING_TOKENS),
        model,
        stream: ask.text("stream_format").as_deref() == Some("sse") || ask.is_true("stream"),
        input_bound: body.len() as u64,
        input_unbounded: characters.is_none(),
        choices: 1,
        hidden_output: true,
        units: characters.map_or_else(Units::new, |n| Units::from([(CHARACTERS.into(), Quantity::whole(n))])),
        ..RequestFacts::default()
    })
}

/// Whether the model's sound is billed by its tokens, and not by characters or seconds.
fn is_in_tokens(model: &str) -> bool {
    model.contains("gpt-4o")
}

const CHARACTERS: &str = "billable_characters";

pub(super) fn transcription_request(call: &Call<'_>, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let ask = Ask::of(call, body)?;
    let model = ask.text("model").or_else(|| deployment(call.path()));
    let (sound, prompt) = match &ask {
        Ask::Form(form) => (form.file_bytes, form.text_bytes),
        Ask::Json(_) | Ask::Unread => (body.len() as u64, 0),
    };
    let in_tokens = model.as_deref().is_some_and(is_in_tokens);
    let most = Quantity::whole(sound / BYTES_PER_SECOND + 1);
    let is_known = !matches!(ask, Ask::Unread);
    Ok(RequestFacts {
        no_output: model.as_deref().is_some_and(|name| name.contains("whisper")),
        model,
        stream: ask.is_true("stream"),
        input_bound: sound / BYTES_PER_TOKEN + prompt + FRAMING_TOKENS,
        input_unbounded: !is_known,
        ceiling: in_tokens.then_some(TRANSCRIPT_TOKENS),
        choices: 1,
        hidden_output: true,
        input_audio: true,
        units: if in_tokens || !is_known { Units::new() } else { Units::from([(SECONDS.into(), most)]) },
        ..RequestFacts::default()
    })
}

const SECONDS: &str = "audio_seconds";

pub(super) fn speech(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let estimate = Reading {
        model: facts.model.clone(),
        units: facts.units.clone(),
        quality: if facts.units.is_empty() { Quality::Absent } else { Quality::Estimated },
        reason: Some("speech states no usage; counted by the characters of its text"),
        ..Reading::nothing()
    };
    if is_sse(head, false) {
        return Box::new(SseReader::new(Stream { fallback: estimate, is_speech: true, ..Stream::default() }));
    }
    if head.content_type.contains("json") {
        return Box::new(JsonReader::new(move |body: Option<&[u8]>, _| {
            let answer: Option<Answer> = body.and_then(parse);
            answer.map_or(estimate.clone(), |answer| answer.reading(estimate, true))
        }));
    }
    Box::new(Sound(Some(estimate)))
}

/// Sound itself says nothing.
struct Sound(Option<Reading>);

impl Reader for Sound {
    fn feed(&mut self, _: &[u8]) {}

    fn finish(&mut self, _: BodyEnd) -> Reading {
        self.0.take().unwrap_or_else(Reading::absent)
    }
}

pub(super) fn transcription(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let fallback = Reading { model: facts.model.clone(), ..Reading::absent() };
    let is_events = is_sse(head, facts.stream);
    let stream = SseReader::new(Stream { fallback: fallback.clone(), ..Stream::default() });
    let document = JsonReader::new(move |body: Option<&[u8]>, _| {
        let answer: Option<Answer> = body.and_then(parse);
        answer.map_or(fallback.clone(), |answer| answer.reading(fallback, false))
    });
    // A transcript may be plain text, which is neither.
    if head.content_type.is_empty() || is_events || head.content_type.contains("json") {
        return Either::of(is_events, Box::new(stream), Box::new(document));
    }
    Box::new(document)
}

/// A transcript, or the last event of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    /// Of the whole sound, in a verbose answer.
    #[serde(deserialize_with = "seconds")]
    duration: Option<Quantity>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Charged<Used>>,
    error: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Default)]
struct Used {
    tokens: Tokens,
    seconds: Option<Quantity>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lengths {
    #[serde(deserialize_with = "seconds")]
    seconds: Option<Quantity>,
    /// Mistral's name for it.
    #[serde(deserialize_with = "seconds")]
    prompt_audio_seconds: Option<Quantity>,
}

impl<'de> Deserialize<'de> for Used {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(d)?;
        let tokens = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        let lengths: Lengths = serde_json::from_str(raw.get()).unwrap_or_default();
        Ok(Self { tokens, seconds: lengths.seconds.or(lengths.prompt_audio_seconds) })
    }
}

impl Answer {
    /// `fallback`: what it is taken to have used when it does not say.
    fn reading(self, fallback: Reading, is_speech: bool) -> Reading {
        let model = self.model.or_else(|| fallback.model.clone());
        if let Some(stated) = self.usage.filter(|u| u.usage.is_stated() || u.charge.is_some()) {
            let mut usage = stated.usage.tokens.usage();
            if is_speech && !stated.usage.tokens.splits_output() {
                usage.output_audio = usage.output_tokens;
            }
            let units = stated.usage.seconds.map(|n| (SECONDS.into(), n)).into_iter().collect();
            return Reading { model, usage, units, reported: stated.charge, ..Reading::nothing() };
        }
        if self.error.is_some() {
            return Reading { model, ..Reading::free("the answer holds an error alone") };
        }
        let length = self.duration.filter(|_| !is_speech);
        length.map_or(Reading { model: model.clone(), ..fallback }, |n| Reading {
            model,
            units: Units::from([(SECONDS.into(), n)]),
            quality: Quality::Estimated,
            reason: Some("the length of the sound, which the provider may round"),
            ..Reading::nothing()
        })
    }
}

impl Used {
    fn is_stated(&self) -> bool {
        self.tokens.is_stated() || self.seconds.is_some()
    }
}

/// `speech.audio.done`, `transcript.text.done` and other providers' last events say the usage.
struct Stream {
    fallback: Reading,
    is_speech: bool,
    last: Option<Answer>,
    events: u64,
    failed: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Self { fallback: Reading::absent(), is_speech: false, last: None, events: 0, failed: false }
    }
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        self.events += 1;
        let has_usage = memchr::memmem::find(data, b"\"usage\"").is_some();
        let failed = name == "error" || memchr::memmem::find(data, b"\"error\"").is_some();
        if !has_usage && !failed {
            return;
        }
        let Some(answer) = parse::<Answer>(data) else { return };
        if answer.usage.is_some() {
            self.last = Some(answer);
        } else if answer.error.is_some() || answer.kind.as_deref() == Some("error") {
            self.failed = true;
        }
    }

    fn finish(&mut self, _: BodyEnd, _: u64) -> Reading {
        let fallback = std::mem::replace(&mut self.fallback, Reading::absent());
        match self.last.take() {
            Some(answer) => answer.reading(fallback, self.is_speech),
            None if self.failed && self.events == 1 => {
                Reading { model: fallback.model, ..Reading::free("the stream holds an error alone") }
            }
            None => fallback,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Billing, Endpoint};

    const JSON: AnswerHead<'_> = AnswerHead::new(200, "application/json");
    const SSE: AnswerHead<'_> = AnswerHead::new(200, "text/event-stream");
    const SPEECH: Endpoint = Endpoint { name: "audio_speech", billing: Billing::Metered };

    fn call(content_type: &'static str) -> Call<'static> {
        Call { content_type, ..Call::new(SPEECH, "/v1/audio/x") }
    }

    fn read(mut reader: Box<dyn Reader>, body: &[u8]) -> Reading {
        body.chunks(5).for_each(|c| reader.feed(c));
        reader.finish(BodyEnd::Complete)
    }

    #[test]
    fn speech_is_counted_by_its_characters_and_not_its_bytes() {
        let facts = speech_request(&call("application/json"), r#"{"model":"tts-1","input":"h\u00e9llo ☺"}"#.as_bytes());
        let facts = facts.unwrap();
        assert_eq!((facts.units[CHARACTERS], facts.no_output), (Quantity::whole(7), true));
        let got = read(speech(&facts, AnswerHead::new(200, "audio/mpeg")), b"\xff\xf3\xc4");
        assert_eq!((got.quality, got.units[CHARACTERS]), (Quality::Estimated, Quantity::whole(7)));
        let tts = speech_request(&call("application/json"), br#"{"text":"abc","language":"en"}"#).unwrap();
        assert_eq!((tts.units[CHARACTERS], tts.model), (Quantity::whole(3), None));
        let unread = speech_request(&call("text/plain"), b"abc").unwrap();
        assert_eq!(read(speech(&unread, JSON), b"{}").quality, Quality::Absent);
    }

    #[test]
    fn a_stream_of_speech_says_its_tokens_at_the_end() {
        let facts = speech_request(
            &call("application/json"),
            br#"{"model":"gpt-4o-mini-tts","input":"hello","stream_format":"sse"}"#,
        )
        .unwrap();
        assert_eq!((facts.stream, facts.ceiling), (true, Some(5 * 8 + 128)));
        let body = b"data: {\"type\":\"speech.audio.delta\",\"audio\":\"AA\"}\n\n\
            data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":101,\"total_tokens\":115}}\n\n";
        let got = read(speech(&facts, SSE), body);
        assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_audio), (Quality::Exact, 14, 101));
        assert!(got.units.is_empty());
        assert_eq!(read(speech(&facts, SSE), &body[..60]).quality, Quality::Estimated);
    }

    fn transcribed(answer: &str) -> Reading {
        let form = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n";
        let facts = transcription_request(&call("multipart/form-data; boundary=b"), form).unwrap();
        assert!(facts.input_audio && facts.input_bound > 128);
        read(transcription(&facts, JSON), answer.as_bytes())
    }

    #[test]
    fn a_transcription_states_tokens_or_seconds() {
        let got = transcribed(
            r#"{"text":"x","usage":{"type":"tokens","input_tokens":26,"input_token_details":{"text_tokens":5,"audio_tokens":21},"output_tokens":5}}"#,
        );
        assert_eq!((got.quality, got.usage.input_audio, got.usage.output_tokens), (Quality::Exact, 21, 5));
        let got = transcribed(r#"{"duration":5.48,"usage":{"type":"duration","seconds":6}}"#);
        assert_eq!((got.quality, got.units[SECONDS]), (Quality::Exact, Quantity::whole(6)));
        let got = transcribed(r#"{"text":"x","usage":{"cost":0.0006,"seconds":6}}"#);
        assert_eq!(got.reported.map(|p| p.to_string()), Some("0.0006".to_owned()));
        let got = transcribed(
            r#"{"model":"voxtral-mini","usage":{"prompt_audio_seconds":203,"prompt_tokens":4,"completion_tokens":6}}"#,
        );
        assert_eq!((got.usage.output_tokens, got.units[SECONDS]), (6, Quantity::whole(203)));
    }

    #[test]
    fn a_verbose_answer_is_estimated_by_its_length_and_a_plain_one_absent() {
        for duration in ["5.5", "\"5.5\""] {
            let got = transcribed(&format!("{{\"duration\":{duration},\"text\":\"x\"}}"));
            assert_eq!((got.quality, got.units[SECONDS].to_string()), (Quality::Estimated, "5.5".to_owned()));
        }
        for plain in [r#"{"text":"x"}"#, "1\n00:00:00,000 --> 00:00:02,000\nx"] {
            let got = transcribed(plain);
            assert_eq!((got.quality, got.model.as_deref()), (Quality::Absent, Some("whisper-1")));
        }
    }

    #[test]
    fn a_streamed_transcript_says_its_tokens_at_the_end() {
        let facts = RequestFacts { stream: true, ..RequestFacts::default() };
        let body = b"data: {\"type\":\"transcript.text.delta\",\"delta\":\"x\"}\n\n\
            data: {\"type\":\"transcript.text.done\",\"text\":\"x\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":4}}\n\n";
        let got = read(transcription(&facts, SSE), body);
        assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 14, 4));
        assert_eq!(read(transcription(&facts, SSE), &body[..50]).quality, Quality::Absent);
    }
}
