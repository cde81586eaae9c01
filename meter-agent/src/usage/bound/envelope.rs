//! How many tokens the JSON of a request can become: which of its members carry content, which only frame it, which
//! steer, and which are written out for the model with their structure.
//!
//! Content counts by the bytes of its decoded text, as no tokenizer makes more tokens than bytes; an object around it
//! counts a fixed framing in place of its keys and punctuation. Everything else that is not known to steer (tools,
//! schemas, arguments of calls, any member not named here) counts as the longest JSON that a template may write it
//! as: escaped to ASCII, with blanks and indents. Where this file errs it counts too much.

use std::{collections::HashMap, sync::LazyLock};

/// How a dialect frames its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    /// Members of the body that become no input.
    pub(crate) steering: &'static [&'static str],
    /// Tokens of the marks around one object of content: a message with its role, a part of one.
    pub(crate) object: u64,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Text for the model, and what holds it.
    Content,
    /// Content if it is text: a role, a kind, a media type. Short ones are a part of the framing.
    Label,
    /// Written out with its structure. It may hold images and the like.
    Structure,
    /// As above, and nothing in it is anything but text.
    Schema,
    /// A number that steers, within content.
    Setting,
    /// No input at all.
    Steering,
}

/// A string that stands in a list by itself is an input of its own, with marks around it.
const LISTED: u64 = 4;

/// Bytes of a label that the framing covers.
const LABEL_BYTES: u64 = 24;

/// Around a member of written-out JSON: two quotes, a colon with a blank, a comma with a line end and its indent.
const MEMBER: u64 = 6;

/// Brackets or braces of written-out JSON, with a line end.
const BRACKETS: u64 = 3;

/// Longest form of a number with a fraction or an exponent: sign, 17 digits, point and exponent.
const FRACTION: u64 = 24;

/// As above where a template writes all digits of a large one: the largest double has 309.
const LARGE: u64 = 312;

/// Members by what their values are. The names are those of all dialects: none of them means different things in two.
static NAMED: LazyLock<HashMap<&'static str, Role>> = LazyLock::new(|| {
    let of = |names: &'static [&'static str], role: Role| names.iter().map(move |name| (*name, role));
    of(CONTENT, Role::Content)
        .chain(of(LABELS, Role::Label))
        .chain(of(SCHEMAS, Role::Schema))
        .chain(of(SETTINGS, Role::Setting))
        .chain([("model", Role::Steering)])
        .collect()
});

#[rustfmt::skip]
const CONTENT: &[&str] = &[
    "messages", "content", "text", "name", "id", "call_id", "tool_call_id", "tool_use_id", "toolUseId", "tool_calls",
    "function", "output", "instructions", "prompt", "source", "data", "url", "image_url", "input_audio", "image", "bytes",
    "document", "file", "file_data", "system", "cache_control", "cachePoint", "tool_result", "toolResult", "toolUse",
    "thinking", "signature", "reasoning", "reasoning_content", "summary", "refusal", "contents", "parts", "inlineData",
    "inline_data", "fileData", "systemInstruction", "system_instruction", "generationConfig", "generation_config",
    "thinkingConfig", "thinking_config", "functionCall", "function_call", "functionResponse", "function_response",
    "requests", "instances", "inputText", "message", "chat_history", "chatHistory", "preamble", "texts", "inputs", "documents", "images",
];

const LABELS: &[&str] = &[
    "role",
    "type",
    "status",
    "detail",
    "media_type",
    "mimeType",
    "mime_type",
    "ttl",
    "taskType",
    "task_type",
    "thinkingLevel",
    "thinking_level",
];

const SCHEMAS: &[&str] = &[
    "parameters",
    "parametersJsonSchema",
    "input_schema",
    "inputSchema",
    "json_schema",
    "responseSchema",
    "response_schema",
    "responseJsonSchema",
    "response_json_schema",
    "schema",
    "arguments",
];

#[rustfmt::skip]
const SETTINGS: &[&str] = &[
    "temperature", "topP", "top_p", "topK", "top_k", "maxOutputTokens", "max_output_tokens", "candidateCount",
    "candidate_count", "seed", "presencePenalty", "frequencyPenalty", "thinkingBudget", "thinking_budget",
    "includeThoughts", "include_thoughts", "is_error", "strict",
];

impl Role {
    /// What the member's value is, and what its key costs, in a value that is `self`.
    pub(crate) fn of_member(self, key: &str, is_root: bool, envelope: &Envelope) -> (Self, u64) {
        if is_root && envelope.steering.contains(&key) {
            return (Self::Steering, 0);
        }
        match self {
            Self::Steering => (self, 0),
            Self::Schema => (self, written(key) + MEMBER),
            Self::Content | Self::Label | Self::Setting => match NAMED.get(key) {
                Some(role) => (*role, 0),
                // The conversation at the top, what a tool was called with elsewhere.
                None if key == "input" && is_root => (Self::Content, 0),
                None => (Self::Structure, written(key) + MEMBER),
            },
            Self::Structure => {
                let role = if NAMED.get(key) == Some(&Self::Schema) { Self::Schema } else { self };
                (role, written(key) + MEMBER)
            }
        }
    }

    /// Whether objects in it may be images, files or tools.
    pub(crate) fn may_hold_media(self) -> bool {
        match self {
            Self::Content | Self::Label | Self::Setting | Self::Structure => true,
            Self::Schema | Self::Steering => false,
        }
    }

    pub(crate) fn of_text(self, text: &str, listed: bool) -> u64 {
        match self {
            Self::Content => plain(text) + if listed { LISTED } else { 0 },
            Self::Label => plain(text).saturating_sub(LABEL_BYTES),
            Self::Structure | Self::Schema | Self::Setting => written(text) + BRACKETS,
            Self::Steering => 0,
        }
    }

    pub(crate) fn of_object(self, envelope: &Envelope) -> u64 {
        match self {
            Self::Content | Self::Label | Self::Setting => envelope.object,
            Self::Structure | Self::Schema => BRACKETS,
            Self::Steering => 0,
        }
    }

    pub(crate) fn of_list(self) -> u64 {
        match self {
            Self::Structure | Self::Schema => BRACKETS,
            Self::Content | Self::Label | Self::Setting | Self::Steering => 0,
        }
    }

    /// An integer as it is written; in content it may also be a token that is given as such.
    pub(crate) fn of_integer(self, n: u64) -> u64 {
        self.of_number(2 + u64::from(n.checked_ilog10().unwrap_or(0)))
    }

    pub(crate) fn of_fraction(self, n: f64) -> u64 {
        // Integers beyond 64 bits come as this too.
        self.of_number(if n.abs() < 1e15 { FRACTION } else { LARGE })
    }

    pub(crate) fn of_word(self) -> u64 {
        match self {
            Self::Structure | Self::Schema => 5 + BRACKETS,
            Self::Content | Self::Label | Self::Setting | Self::Steering => 0,
        }
    }

    fn of_number(self, digits: u64) -> u64 {
        match self {
            Self::Content | Self::Label => digits,
            Self::Structure | Self::Schema => digits + BRACKETS,
            Self::Setting | Self::Steering => 0,
        }
    }
}

/// Bytes of a text as it is, and of what its characters are normalised to before some tokenizers see them.
fn plain(text: &str) -> u64 {
    if text.is_ascii() { text.len() as u64 } else { text.chars().map(normalised).sum() }
}

/// Bytes of the longest form in which a template writes a text into JSON: escapes of one byte more, or of six bytes
/// for each half of what is not ASCII.
fn written(text: &str) -> u64 {
    let of = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        // Some templates escape what HTML or JSON could stumble over.
        '<' | '>' | '&' | '\'' | '\u{0}'..='\u{1f}' | '\u{7f}' => 6,
        ' '..='~' => 1,
        _ => normalised(c).max(6 * c.len_utf16() as u64),
    };
    text.chars().map(of).sum()
}

/// Bytes of a character, at most, after the compatibility normalisation (NFKC) of some tokenizers: it writes
/// ligatures and squared words as their letters.
#[rustfmt::skip]
fn normalised(c: char) -> u64 {
    match c {
        // The longest phrase has 18 letters.
        '\u{fdf0}'..='\u{fdff}' => 33,
        // Squared words and dates.
        '\u{3200}'..='\u{33ff}' => 18,
        // Notes with their stems, squared and enclosed words, repeated integrals and primes.
        '\u{1d15e}'..='\u{1d1c0}' | '\u{1f100}'..='\u{1f2ff}' | '\u{2030}'..='\u{205f}' | '\u{2a00}'..='\u{2aff}' => 12,
        '\u{222c}'..='\u{2230}' | '\u{f70}'..='\u{f7f}' => 9,
        // Fractions, presentation forms of letters, and letters that are written apart from their marks.
        '\u{a8}'..='\u{be}' | '\u{132}'..='\u{149}' | '\u{1c4}'..='\u{1f3}' | '\u{2d8}'..='\u{2dd}'
        | '\u{340}'..='\u{385}' | '\u{587}' | '\u{675}'..='\u{678}' | '\u{958}'..='\u{95f}'
        | '\u{9dc}'..='\u{9df}' | '\u{a33}'..='\u{a36}' | '\u{a59}'..='\u{a5e}' | '\u{b5c}'..='\u{b5d}'
        | '\u{e33}' | '\u{eb3}' | '\u{edc}'..='\u{edd}' | '\u{f43}'..='\u{f6f}' | '\u{f80}'..='\u{fb9}'
        | '\u{1e9a}' | '\u{1f00}'..='\u{1fff}' | '\u{2150}'..='\u{218f}' | '\u{247c}'..='\u{2487}'
        | '\u{309b}'..='\u{309f}' | '\u{30ff}' | '\u{fa6c}'..='\u{fdef}' | '\u{fe49}'..='\u{feff}' => 6,
        _ => c.len_utf8() as u64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::usage::{
        media::{InputBound, scan},
        tokens::{Tokenizer, count},
    };

    const PLAIN: Envelope = Envelope { steering: &["temperature", "metadata"], object: 6 };

    fn counted(body: &str) -> u64 {
        scan(body.as_bytes(), &PLAIN, &mut |_| {}).unwrap()
    }

    #[test]
    fn content_counts_by_its_text_and_not_by_the_json_around_it() {
        let body = |text: &str| format!(r#"{{"temperature":0.25,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        assert_eq!(counted(&body("Hello")), 6 + 6 + 5);
        assert_eq!(counted(&body(r"\u0048ello\n")), 6 + 6 + 6, "escapes are none of the text");
        let spread = body("Hello").replace(':', " :\n  ");
        assert_eq!(counted(&spread), counted(&body("Hello")));
    }

    #[test]
    fn what_steers_counts_nothing_and_only_at_the_top() {
        let long = "x".repeat(500);
        assert_eq!(counted(&format!(r#"{{"metadata":{{"a":["{long}"]}},"model":"{long}"}}"#)), 6);
        assert!(counted(&format!(r#"{{"messages":[{{"metadata":"{long}"}}]}}"#)) > 500);
        assert!(counted(&format!(r#"{{"messages":[{{"role":"{long}"}}]}}"#)) > 470, "a template writes any role");
    }

    #[test]
    fn a_member_that_is_not_known_counts_with_its_structure() {
        let unknown = json!({"something_new": {"key": ["v", 1, true, null, 1.5]}}).to_string();
        assert!(counted(&unknown) > unknown.len() as u64);
        // Indented and escaped to ASCII, as templates write schemas.
        let schema = json!({"tools": [{"function": {"parameters": {"d\u{e9}": "\u{4f60}\n<b>", "n": [1e300, -3]}}}]});
        let indented = serde_json::to_string_pretty(&schema["tools"]).unwrap().len() as u64;
        assert!(counted(&schema.to_string()) + 16 > indented.min(200));
        assert!(counted(r#"{"x":123456789012345678901234567890}"#) > 300, "a template writes all its digits");
    }

    #[test]
    fn what_looks_like_an_image_in_an_argument_stays_text() {
        let long = "x".repeat(5_000);
        let image = json!({"source": {"data": long}});
        let bound = |body: &Value| {
            let mut bound = InputBound::default();
            let text = scan(body.to_string().as_bytes(), &PLAIN, &mut |node| {
                node.text("data").into_iter().for_each(|data| bound.replace(data, 10));
            });
            bound.tokens(text.unwrap())
        };
        assert!(bound(&json!({"messages": [{"content": [image]}]})) < 100);
        for hidden in [json!({"tools": [{"input_schema": image}]}), json!({"unknown": image})] {
            assert!(bound(&hidden) > 5_000, "{hidden}");
        }
    }

    proptest! {
        #[test]
        fn no_text_has_more_tokens_than_it_counts(text in any::<String>()) {
            let body = json!({"messages": [{"role": "user", "content": text}]}).to_string();
            for tokenizer in [Tokenizer::Cl100k, Tokenizer::O200k] {
                prop_assert!(count(Some(tokenizer), &text) <= counted(&body) - 12);
            }
        }

        #[test]
        fn no_spelling_of_a_text_changes_what_it_counts(text in any::<String>()) {
            let escaped = escaped(&text);
            let plain = json!({"prompt": text}).to_string();
            prop_assert_eq!(counted(&format!(r#"{{"prompt":"{escaped}"}}"#)), counted(&plain));
        }

        #[test]
        fn no_schema_has_more_tokens_than_it_counts(key in any::<String>(), text in any::<String>(), n in any::<i64>(), f in any::<f64>()) {
            let schema = json!({"properties": {&key: {"description": &text, "enum": [n, f, &text], "default": null}}});
            let body = json!({"tools": [{"function": {"parameters": schema}}]}).to_string();
            for written in [schema.to_string(), serde_json::to_string_pretty(&schema).unwrap(), ascii(&schema)] {
                prop_assert!(count(Some(Tokenizer::O200k), &written) <= counted(&body), "{}", written);
            }
        }
    }

    /// Every character as an escape.
    fn escaped(text: &str) -> String {
        text.encode_utf16().fold(String::new(), |out, unit| out + &format!("\\u{unit:04x}"))
    }

    /// As some languages write JSON unless told otherwise.
    fn ascii(value: &Value) -> String {
        let of = |c: char| if c.is_ascii() { c.to_string() } else { escaped(&c.to_string()) };
        value.to_string().chars().map(of).collect()
    }
}
