//! Requests as curl command lines: what an agent in a shell does.

use crate::simulator::directive::Directive;

/// A chat completion whose directive says what it bills.
#[derive(Clone, Debug)]
pub struct Chat {
    pub model: String,
    pub directive: Directive,
    pub ceiling: Option<u64>,
    pub stream: bool,
    /// The agent itself asks for the usage of its stream.
    pub usage: bool,
    /// Words of prompt beside the directive; as many as input tokens, where nothing else is said.
    pub words: Option<u64>,
    /// Further words for curl.
    pub options: String,
}

impl Chat {
    /// 300 input tokens, 200 of 200 output tokens on gpt-4o: $0.00275.
    pub fn ordinary() -> Self {
        let directive = Directive { input: Some(300), output: Some(200), ..Directive::default() };
        Self {
            model: "gpt-4o".to_owned(),
            directive,
            ceiling: Some(200),
            stream: false,
            usage: false,
            words: None,
            options: String::new(),
        }
    }

    /// The same with other facts.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Directive)) -> Self {
        change(&mut self.directive);
        self
    }

    #[must_use]
    pub fn stream(mut self) -> Self {
        self.stream = true;
        self
    }

    #[must_use]
    pub fn options(mut self, words: &str) -> Self {
        words.clone_into(&mut self.options);
        self
    }

    #[must_use]
    pub fn ceiling(mut self, tokens: Option<u64>) -> Self {
        self.ceiling = tokens;
        self
    }

    /// The request's body.
    pub fn body(&self) -> String {
        let words = self.words.or(self.directive.input).unwrap_or(0);
        let words = usize::try_from(words).expect("a prompt fits memory");
        let prompt = format!("{}{}", self.directive.prompt(), " and".repeat(words));
        let mut body = serde_json::json!({
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
        });
        if let Some(ceiling) = self.ceiling {
            body["max_completion_tokens"] = ceiling.into();
        }
        if self.stream {
            body["stream"] = true.into();
        }
        if self.usage {
            body["stream_options"] = serde_json::json!({"include_usage": true});
        }
        body.to_string()
    }

    /// A request whose bill is larger than any text of its size could be: it overruns its hold.
    pub fn overrun(input: u64) -> Self {
        let mut chat = Self::ordinary().with(|directive| directive.input = Some(input));
        chat.words = Some(300);
        chat
    }

    /// The curl command line; prints the body and, on a line of its own, the status.
    pub fn curl(&self) -> String {
        curl("https://api.openai.com/v1/chat/completions", &self.body(), &self.options)
    }
}

/// A curl command line that posts JSON; prints the body and, on a line of its own, the status.
pub fn curl(url: &str, body: &str, options: &str) -> String {
    assert!(!body.contains('\''), "the body is quoted for the shell");
    format!(
        "curl -sS --max-time 60 {options} -w '\\n%{{http_code}}\\n' -H 'content-type: application/json' \
         -H 'authorization: Bearer test-key' -d '{body}' {url}"
    )
}

/// The status that such a command line printed last.
pub fn status(printed: &str) -> u16 {
    printed.trim_end().rsplit('\n').next().and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}
