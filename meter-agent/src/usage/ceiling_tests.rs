//! A stated ceiling is replaced by a lower one in each dialect's own field, whatever name it goes by, and none is added
//! beside it.

use bytes::Bytes;

use super::{Call, Rewrite, detect, dialect};

/// No other number in the requests below has these digits.
const STATED: &str = "54321";

#[test]
fn a_stated_ceiling_is_replaced_wherever_it_stands() {
    let gemini = "/v1beta/models/gemini-2.5-pro:generateContent";
    for (name, path, body) in [
        ("openai", "/v1/chat/completions", r#"{"model":"gpt-5","messages":[],"max_tokens":54321}"#),
        ("openai", "/v1/chat/completions", r#"{"model":"gpt-5","messages":[],"max_completion_tokens":54321}"#),
        (
            "openai",
            "/v1/chat/completions",
            r#"{"model":"gpt-5","messages":[],"max_tokens":54321,"max_completion_tokens":54321}"#,
        ),
        ("openai", "/v1/completions", r#"{"model":"gpt-5","prompt":"","max_tokens":54321}"#),
        ("openai", "/v1/responses", r#"{"model":"gpt-5","input":"","max_output_tokens":54321}"#),
        ("anthropic", "/v1/messages", r#"{"model":"claude-opus-4","messages":[],"max_tokens":54321}"#),
        ("anthropic", "/v1/complete", r#"{"model":"claude-2","prompt":"","max_tokens_to_sample":54321}"#),
        ("gemini", gemini, r#"{"contents":[],"generationConfig":{"maxOutputTokens":54321}}"#),
        ("gemini", gemini, r#"{"contents":[],"generation_config":{"max_output_tokens":54321}}"#),
        ("gemini", gemini, r#"{"contents":[],"generationConfig":{"max_output_tokens":54321,"maxOutputTokens":54321}}"#),
        ("gemini", "/v1beta/interactions", r#"{"model":"m","generation_config":{"max_output_tokens":54321}}"#),
        (
            "bedrock",
            "/model/amazon.nova-pro-v1%3A0/converse",
            r#"{"messages":[],"inferenceConfig":{"maxTokens":54321}}"#,
        ),
        (
            "bedrock",
            "/model/anthropic.claude-3/invoke",
            r#"{"anthropic_version":"v","messages":[],"max_tokens":54321}"#,
        ),
        ("cohere", "/v2/chat", r#"{"model":"command-a","messages":[],"max_tokens":54321}"#),
        ("ollama", "/api/chat", r#"{"model":"a","messages":[],"options":{"num_predict":54321}}"#),
    ] {
        let (dialect, endpoint) = detect(dialect(name), "POST", path);
        let call = Call::new(endpoint, path);
        let before = dialect.request(&call, &Bytes::from(body)).unwrap();
        assert!(before.can_clamp, "{name} {body}");
        let done =
            dialect.rewrite(endpoint, body.as_bytes(), Rewrite { ask_usage: false, ceiling: Some(100) }).unwrap();
        let done = String::from_utf8(done).unwrap();
        assert!(!done.contains(STATED), "{name}: {done}");
        assert_eq!(done.matches("100").count(), body.matches(STATED).count(), "{name}: {done}");
        let after = dialect.request(&call, &Bytes::from(done)).unwrap();
        assert_eq!((before.ceiling, after.ceiling), (Some(54_321), Some(100)), "{name} {body}");
    }
}
