//! What a request says in its members, be it JSON or a form (`multipart/form-data`, RFC 7578).
//!
//! A form's files are counted and never kept; its text fields are small. A request without a readable body (it
//! streams, or is of another kind) says nothing.

use memchr::memmem;

use crate::usage::{Call, Unreadable, edit::RawObject};

/// Longest text field of a form that is kept. Prompts are shorter; anything longer is only counted.
const FIELD_BYTES_MAX: usize = 64 * 1024;

/// Most parts of a form that are looked at. Images take 16 files and a dozen fields.
const PARTS_MAX: usize = 256;

/// A request's members.
pub(super) enum Ask<'b> {
    Json(RawObject<'b>),
    Form(Form),
    /// Nothing is known of it.
    Unread,
}

/// A form's text fields and the size of everything else.
#[derive(Debug, Default)]
pub(super) struct Form {
    fields: Vec<(String, String)>,
    pub(super) files: u64,
    pub(super) file_bytes: u64,
    pub(super) text_bytes: u64,
}

impl<'b> Ask<'b> {
    pub(super) fn of(call: &Call<'_>, body: &'b [u8]) -> Result<Self, Unreadable> {
        let kind = call.content_type.trim().to_ascii_lowercase();
        if body.is_empty() {
            return Ok(Self::Unread);
        }
        if kind.starts_with("multipart/") {
            return Ok(boundary(call.content_type).map_or(Self::Unread, |b| Self::Form(Form::parse(body, &b))));
        }
        let is_json = kind.is_empty() || kind.contains("json");
        if is_json { RawObject::parse(body).map(Self::Json) } else { Ok(Self::Unread) }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self {
            Self::Json(object) => object.text(name),
            Self::Form(form) => form.field(name).map(str::to_owned),
            Self::Unread => None,
        }
    }

    pub(super) fn count(&self, name: &str) -> Option<u64> {
        match self {
            Self::Json(object) => object.count(name),
            Self::Form(form) => form.field(name)?.trim().parse().ok(),
            Self::Unread => None,
        }
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        match self {
            Self::Json(object) => object.is_true(name),
            Self::Form(form) => form.field(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true")),
            Self::Unread => false,
        }
    }
}

impl Form {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn parse(body: &[u8], boundary: &str) -> Self {
        let delimiter = format!("--{boundary}");
        let mut form = Self::default();
        let mut starts = memmem::find_iter(body, delimiter.as_bytes()).peekable();
        for _ in 0..PARTS_MAX {
            let Some(start) = starts.next() else { break };
            let end = starts.peek().copied().unwrap_or(body.len());
            form.part(&body[start + delimiter.len()..end]);
        }
        form
    }

    /// One part: its head, a blank line, its content and a line end. The last one is `--` alone.
    fn part(&mut self, part: &[u8]) {
        let Some(at) = memmem::find(part, b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&part[..at]);
        let content = &part[at + 4..];
        let content = content.strip_suffix(b"\r\n").unwrap_or(content);
        let disposition =
            head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:")).unwrap_or("");
        let size = content.len() as u64;
        if parameter(disposition, "filename").is_some() || disposition.contains("filename*=") {
            self.files += 1;
            self.file_bytes += size;
            return;
        }
        self.text_bytes += size;
        let name = parameter(disposition, "name");
        if let (Some(name), Ok(value), true) = (name, std::str::from_utf8(content), content.len() <= FIELD_BYTES_MAX) {
            self.fields.push((name, value.to_owned()));
        }
    }
}

fn boundary(content_type: &str) -> Option<String> {
    parameter(content_type, "boundary").filter(|b| !b.is_empty())
}

/// A parameter of a header's value, with or without quotes.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Billing, Endpoint};

    const FORM: &[u8] = b"--x.y\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-image-1\r\n--x.y\r\n\
        content-disposition: form-data; name=\"image[]\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x00\r\n\
        --x.y\r\nContent-Disposition: form-data; name=n\r\n\r\n3\r\n--x.y--\r\n";

    fn call(content_type: &'static str) -> Call<'static> {
        Call { content_type, ..Call::new(Endpoint { name: "x", billing: Billing::Metered }, "/x") }
    }

    #[test]
    fn a_forms_fields_are_read_and_its_files_counted() {
        let form = Ask::of(&call("multipart/form-data; boundary=\"x.y\""), FORM).unwrap();
        assert_eq!((form.text("model").as_deref(), form.count("n")), (Some("gpt-image-1"), Some(3)));
        assert_eq!((form.text("image[]"), form.is_true("stream")), (None, false));
        let Ask::Form(form) = form else { panic!("a form") };
        assert_eq!((form.files, form.file_bytes, form.text_bytes), (1, 7, 12));
    }

    #[test]
    fn a_form_cut_anywhere_is_read_as_far_as_it_goes() {
        for end in 1..FORM.len() {
            let form = Ask::of(&call("Multipart/Form-Data; boundary=x.y"), &FORM[..end]).unwrap();
            assert!(matches!(form, Ask::Form(_)));
        }
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        assert!(matches!(Ask::of(&call("multipart/form-data"), FORM), Ok(Ask::Unread)));
        assert!(matches!(Ask::of(&call("application/json"), b""), Ok(Ask::Unread)));
        assert!(matches!(Ask::of(&call("audio/wav"), b"RIFF"), Ok(Ask::Unread)));
        assert!(Ask::of(&call("application/json"), b"[").is_err());
    }
}
