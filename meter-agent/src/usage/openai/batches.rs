//! The results of batches: the file that a batch leaves (`GET .../files/{id}/content`), and xAI's
//! `GET .../batches/{id}/results`.
//!
//! A result file has a line of JSON per request: `custom_id` and the whole answer with its usage. Ordering and watching
//! a batch cost nothing by themselves; its lines are billed at batch prices, once per file. Whatever else a file holds
//! costs nothing to read. The bytes are read line by line, so that a file of any size takes bounded memory.
//!
//! Sources: the "Batch API" guide at developers.openai.com/api/docs/guides, docs.mistral.ai, docs.x.ai.

use serde::{Deserialize, de::IgnoredAny};

use super::tokens::{Tokens, lenient};
use crate::{
    money::Pico,
    usage::{
        BodyEnd, Call, Line, Quality, Reader, Reading, ResultRef, Standing,
        json::{or_default, parse, text},
        read::JsonReader,
        reported::Charged,
    },
};

/// Longest line that is kept. A line holds one answer, which may hold images.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most models told apart; a batch has one, or a few.
const MODELS_MAX: usize = 32;

/// The results of a file: JSON lines.
pub(super) fn file_reader(call: &Call<'_>) -> Box<dyn Reader> {
    let mut segments = call.path().rsplit('/').filter(|segment| !segment.is_empty());
    let id = segments.nth(1).unwrap_or_default().to_owned();
    Box::new(FileReader { id, line: Vec::new(), state: State::Unsure, lost: false, sum: Sum::default() })
}

/// A page of a batch's results: one JSON document.
pub(super) fn page_reader(call: &Call<'_>) -> Box<dyn Reader> {
    // Each page is a result of its own, known by the path that names the batch and the page.
    let id = call.path_and_query.to_owned();
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end| {
        let Some(page) = body.and_then(parse::<Page>) else {
            return Reading { batch: true, ..Reading::absent() };
        };
        let mut sum = Sum::default();
        for result in page.results {
            sum.add(result.answer());
        }
        sum.reading(id, end == BodyEnd::Cut)
    }))
}

/// Whether the file is a batch's results, by its first line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unsure,
    Results,
    Other,
}

struct FileReader {
    id: String,
    line: Vec<u8>,
    state: State,
    /// A line was too long to be kept.
    lost: bool,
    sum: Sum,
}

impl Reader for FileReader {
    fn feed(&mut self, mut chunk: &[u8]) {
        while let Some(at) = memchr::memchr(b'\n', chunk) {
            self.grow(&chunk[..at]);
            self.end_line();
            chunk = &chunk[at + 1..];
        }
        self.grow(chunk);
    }

    fn finish(&mut self, end: BodyEnd) -> Reading {
        self.end_line();
        if self.state != State::Results {
            return Reading::free("the file holds no results of a batch");
        }
        let sum = std::mem::take(&mut self.sum);
        sum.reading(std::mem::take(&mut self.id), self.lost || end == BodyEnd::Cut)
    }
}

impl FileReader {
    fn grow(&mut self, part: &[u8]) {
        if self.state == State::Other {
            return;
        }
        if self.line.len() + part.len() > LINE_BYTES_MAX {
            // An ordinary file may be one long line; it is taken for no result.
            self.lost = true;
            self.line = Vec::new();
            if self.state == State::Unsure {
                self.state = State::Other;
            }
            return;
        }
        self.line.extend_from_slice(part);
    }

    fn end_line(&mut self) {
        if self.state != State::Other && !self.line.trim_ascii().is_empty() {
            match parse::<Entry>(&self.line) {
                Some(entry) if entry.custom_id.is_some() && entry.is_result() => {
                    self.state = State::Results;
                    self.sum.add(entry.response.and_then(|response| response.body));
                }
                Some(_) | None if self.state == State::Unsure => self.state = State::Other,
                Some(_) | None => self.lost = true,
            }
        }
        self.line.clear();
    }
}

/// A line of a result file.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    custom_id: Option<IgnoredAny>,
    #[serde(deserialize_with = "lenient")]
    response: Option<Response>,
    error: Option<IgnoredAny>,
    /// A line of the file that orders a batch has these instead of a response.
    body: Option<IgnoredAny>,
}

impl Entry {
    fn is_result(&self) -> bool {
        (self.response.is_some() || self.error.is_some()) && self.body.is_none()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response {
    #[serde(deserialize_with = "lenient")]
    body: Option<Answer>,
}

/// The answer to one request: of chat, responses or embeddings.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Charged<Tokens>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Page {
    #[serde(deserialize_with = "or_default")]
    results: Vec<PageEntry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PageEntry {
    #[serde(deserialize_with = "lenient")]
    batch_result: Option<PageResult>,
    #[serde(deserialize_with = "lenient")]
    response: Option<PageResponse>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PageResult {
    #[serde(deserialize_with = "lenient")]
    response: Option<PageResponse>,
}

/// The answer stands under the name of the call that it answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PageResponse {
    #[serde(deserialize_with = "lenient")]
    chat_get_completion: Option<Answer>,
    #[serde(deserialize_with = "lenient")]
    responses: Option<Answer>,
    #[serde(deserialize_with = "lenient")]
    model_response: Option<Answer>,
}

impl PageEntry {
    fn answer(self) -> Option<Answer> {
        let response = self.batch_result.and_then(|result| result.response).or(self.response)?;
        response.chat_get_completion.or(response.responses).or(response.model_response)
    }
}

/// What the answers used, by model.
#[derive(Default)]
struct Sum {
    lines: Vec<Line>,
    charge: Option<Pico>,
    /// An answer that stated no charge, so that the sum of the others is not the whole.
    uncharged: bool,
}

impl Sum {
    /// A request that failed has no answer, or one without usage: it costs nothing.
    fn add(&mut self, answer: Option<Answer>) {
        let Some((model, stated)) = answer.and_then(|a| Some((a.model, a.usage?))) else { return };
        match stated.charge {
            Some(charge) => self.charge = Some(self.charge.unwrap_or(Pico::ZERO).saturating_add(charge)),
            None => self.uncharged = true,
        }
        let is_full = self.lines.len() >= MODELS_MAX;
        let usage = stated.usage.usage();
        match self.lines.iter_mut().find(|line| line.model == model) {
            Some(line) => line.usage = line.usage.plus(usage),
            None if is_full => self.lines[0].usage = self.lines[0].usage.plus(usage),
            None => self.lines.push(Line { model, usage, ..Line::default() }),
        }
    }

    fn reading(mut self, id: String, partial: bool) -> Reading {
        let usage = self.lines.iter().fold(crate::usage::Usage::default(), |sum, line| sum.plus(line.usage));
        let model = self.lines.first().and_then(|line| line.model.clone());
        if self.lines.len() < 2 {
            self.lines.clear();
        }
        let told = Reading {
            model,
            batch: true,
            lines: self.lines,
            reported: self.charge.filter(|_| !self.uncharged),
            ..Reading::of(Quality::Exact, usage)
        };
        if partial {
            // What was read is charged as far as it goes, and the file again when it is read whole.
            return Reading { quality: Quality::Absent, reason: Some("the results were not read whole"), ..told };
        }
        Reading { result: Some(ResultRef { id, standing: Standing::Final }), ..told }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Billing, Endpoint};

    fn call(path: &str) -> Call<'_> {
        Call::new(Endpoint { name: "files", billing: Billing::Result }, path)
    }

    fn read(mut reader: Box<dyn Reader>, body: &str, step: usize, end: BodyEnd) -> Reading {
        body.as_bytes().chunks(step).for_each(|c| reader.feed(c));
        reader.finish(end)
    }

    fn file(body: &str) -> Reading {
        let whole = read(file_reader(&call("/v1/files/file-1/content")), body, usize::MAX, BodyEnd::Complete);
        let bytes = read(file_reader(&call("/v1/files/file-1/content")), body, 1, BodyEnd::Complete);
        assert_eq!(whole, bytes, "any split reads the same");
        whole
    }

    const RESULTS: &str = concat!(
        r#"{"id":"b_1","custom_id":"0","response":{"status_code":200,"body":{"model":"gpt-4o","usage":{"prompt_tokens":9,"completion_tokens":2}}},"error":null}"#,
        "\n",
        r#"{"id":"b_2","custom_id":"1","response":{"status_code":200,"body":{"model":"gpt-4o","usage":{"input_tokens":5,"output_tokens":1}}},"error":null}"#,
        "\r\n\n",
        r#"{"id":"b_3","custom_id":"2","response":{"status_code":400,"body":{"error":{"message":"x"}}},"error":null}"#,
    );

    #[test]
    fn a_result_file_is_the_sum_of_its_answers_at_batch_prices() {
        let got = file(RESULTS);
        assert_eq!(
            (got.quality, got.batch, got.usage.input_tokens, got.usage.output_tokens),
            (Quality::Exact, true, 14, 3)
        );
        let result = got.result.unwrap();
        assert_eq!((result.id.as_str(), result.standing), ("file-1", Standing::Final));
        let two = file(&RESULTS.replacen("gpt-4o", "gpt-4o-mini", 1));
        assert_eq!((two.lines.len(), two.lines[1].usage.input_tokens), (2, 5));
    }

    #[test]
    fn other_files_cost_nothing() {
        let ordered = r#"{"custom_id":"0","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o"}}"#;
        for body in [ordered, "a,b\n1,2\n", "", "{\"messages\":[]}\n{\"messages\":[]}", "%PDF-1.3\n\u{0}"] {
            let got = file(body);
            assert_eq!((got.quality, got.usage.input_tokens, got.result), (Quality::Exact, 0, None), "{body}");
        }
    }

    #[test]
    fn results_that_were_not_read_whole_are_not_exact() {
        let reader = file_reader(&call("/v1/files/file-1/content"));
        let got = read(reader, &RESULTS[..RESULTS.len() - 30], 9, BodyEnd::Cut);
        assert_eq!((got.quality, got.result), (Quality::Absent, None));
    }

    #[test]
    fn a_page_of_results_is_known_by_its_path() {
        let body = r#"{"results":[{"batch_request_id":"0","batch_result":{"response":{"chat_get_completion":{"model":"grok-4",
            "usage":{"prompt_tokens":9,"completion_tokens":2,"cost_in_usd_ticks":5000000}}}}},{"batch_request_id":"1"}]}"#;
        let path = "/v1/batches/batch_1/results?pagination_token=a";
        let got = read(page_reader(&call(path)), body, 9, BodyEnd::Complete);
        assert_eq!((got.usage.input_tokens, got.result.unwrap().id.as_str()), (9, path));
        assert_eq!(got.reported.map(|p| p.to_string()), Some("0.0005".to_owned()));
    }
}
