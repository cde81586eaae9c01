//! The models of one session over a socket: those that the agent asked for, and the one that the provider says.
//!
//! What the agent asks for is what its account must be allowed to use; the provider may call the same model by another
//! name. Whether it follows a change nobody can know before it says so, so that every model that was asked for counts
//! in what a turn can cost.

use memchr::memmem;

use super::{RequestFacts, edit::RawObject};

/// Models that are remembered; a session is opened with one, and few change it.
const ASKED_MAX: usize = 8;

#[derive(Default)]
pub(super) struct SessionModels {
    /// The one that was asked for last is last.
    asked: Vec<String>,
    /// Named last, by either side.
    latest: Option<String>,
}

impl SessionModels {
    pub(super) fn opened_with(named: impl IntoIterator<Item = String>) -> Self {
        let mut models = Self::default();
        named.into_iter().for_each(|model| models.ask(Some(model)));
        models
    }

    /// The agent names a model.
    pub(super) fn ask(&mut self, model: Option<String>) {
        let Some(model) = model.filter(|model| !model.is_empty()) else { return };
        self.asked.retain(|known| *known != model);
        self.asked.truncate(ASKED_MAX - 1);
        self.asked.push(model.clone());
        self.latest = Some(model);
    }

    /// A message of the agent, in the shape of OpenAI's realtime API: one that configures the session, or orders a
    /// response.
    pub(super) fn asked_by(&mut self, message: &[u8]) {
        if !may_name(message, &[b"session.update\"", b"response.create\""]) {
            return;
        }
        let Ok(event) = RawObject::parse(message) else { return };
        for member in ["session", "response"] {
            let inner = event.get(member).and_then(|raw| RawObject::parse(raw.as_bytes()).ok());
            self.ask(inner.and_then(|inner| inner.text("model")));
        }
    }

    /// The provider names the session's model.
    pub(super) fn say(&mut self, model: Option<String>) {
        self.latest = model.filter(|model| !model.is_empty()).or(self.latest.take());
    }

    /// What a turn is billed to, where its answer names nothing.
    pub(super) fn billed(&self) -> Option<String> {
        self.latest.clone()
    }

    /// The facts with the models that a turn may be answered by.
    pub(super) fn named_in(&self, facts: RequestFacts) -> RequestFacts {
        match self.asked.split_last() {
            None => RequestFacts { model: self.latest.clone().or(facts.model), ..facts },
            Some((last, before)) => RequestFacts { model: Some(last.clone()), fallbacks: before.to_vec(), ..facts },
        }
    }
}

/// Whether a message may hold one of these, be it with escapes in it. Sound, which is most of what is sent, has none.
pub(super) fn may_name(message: &[u8], names: &[&[u8]]) -> bool {
    names.iter().chain(&[b"\\u".as_slice()]).any(|name| memmem::find(message, name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(models: &SessionModels) -> (Option<String>, Vec<String>) {
        let facts = models.named_in(RequestFacts::default());
        (facts.model, facts.fallbacks)
    }

    #[test]
    fn what_the_agent_asks_for_goes_before_what_the_provider_calls_it() {
        let mut models = SessionModels::default();
        assert_eq!(named(&models), (None, vec![]));
        models.say(Some("default-2026".to_owned()));
        assert_eq!(named(&models), (Some("default-2026".to_owned()), vec![]));
        let mut models = SessionModels::opened_with(Some("voice".to_owned()));
        models.say(Some("voice-2026".to_owned()));
        assert_eq!(named(&models), (Some("voice".to_owned()), vec![]));
        assert_eq!(models.billed().as_deref(), Some("voice-2026"));
    }

    #[test]
    fn a_model_that_was_changed_still_counts_and_none_counts_twice() {
        let mut models = SessionModels::opened_with(Some("dear".to_owned()));
        for model in ["cheap", "dear", "cheap"] {
            models.ask(Some(model.to_owned()));
        }
        assert_eq!(named(&models), (Some("cheap".to_owned()), vec!["dear".to_owned()]));
        (0..100).for_each(|n| models.ask(Some(format!("m{n}"))));
        let (last, before) = named(&models);
        assert_eq!((last.as_deref(), before.len()), (Some("m99"), ASKED_MAX - 1));
        assert_eq!(before[0], "dear", "what it was opened with is not pushed out");
    }

    #[test]
    fn a_message_names_a_model_however_it_is_written() {
        for message in [
            r#"{"type":"session.update","session":{"model":"b"}}"#,
            r#"{"type":"transcription_session.update","session":{"model":"b"}}"#,
            r#"{"type":"session\u002eupdate","session":{"model":"b"}}"#,
            r#"{"session":{"model":"x"},"type":"session.update","session":{"model":"x","model":"b"}}"#,
            r#"{"type":"response.create","response":{"model":"b"}}"#,
        ] {
            let mut models = SessionModels::opened_with(Some("a".to_owned()));
            models.asked_by(message.as_bytes());
            assert_eq!(models.billed().as_deref(), Some("b"), "{message}");
        }
        let mut models = SessionModels::opened_with(Some("a".to_owned()));
        models.asked_by(br#"{"type":"session.update","session":{"voice":"model"}}"#);
        models.asked_by(br#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#);
        assert_eq!(named(&models), (Some("a".to_owned()), vec![]));
    }
}
