//! `[[host]]`: metered hosts beside the built-in ones.

use std::ops::Range;

use toml::de::DeTable;

use super::{mistake::suggestion, read::Reader, values::Value};
use crate::usage::hosts::{HostEntry, HostTable, Speaks};

const HOST_KEYS: [&str; 4] = ["name", "dialect", "provider", "price"];

impl<'i> Reader<'i> {
    pub(super) fn hosts(&mut self, value: &Value<'i>) -> Vec<HostEntry> {
        let Some(entries) = value.get_ref().as_array() else {
            self.mistake(&value.span(), "`host` is not a list; write each one below a line `[[host]]`".to_owned());
            return Vec::new();
        };
        let mut hosts: Vec<HostEntry> = Vec::new();
        for entry in entries {
            let Some((host, at)) = self.host(entry) else { continue };
            if hosts.iter().any(|h| h.name == host.name) {
                self.mistake(&at, format!("the host `{}` is there twice; keep one of the two", host.name));
            } else {
                hosts.push(host);
            }
        }
        hosts
    }

    fn host(&mut self, entry: &Value<'i>) -> Option<(HostEntry, Range<usize>)> {
        let Some(table) = entry.get_ref().as_table() else {
            self.mistake(&entry.span(), "not a host; write `name` and `dialect` below a line `[[host]]`".to_owned());
            return None;
        };
        self.known_keys(table, &HOST_KEYS, " in `[[host]]`");
        if !table.contains_key("name") {
            self.mistake(&entry.span(), "this `[[host]]` has no `name`; add it".to_owned());
        }
        let name = table.get("name").and_then(|v| self.string("name", v));
        let free = table.get("price").is_some_and(|v| self.free(v));
        let speaks = self.speaks(entry, table);
        let (name, speaks) = (name?.to_ascii_lowercase(), speaks?);
        let at = table.get("name")?.span();
        let host = HostEntry { name, speaks, free };
        match HostTable::new(std::slice::from_ref(&host)) {
            Ok(_) => Some((host, at)),
            Err(error) => {
                self.mistake(&at, error.to_string());
                None
            }
        }
    }

    /// Exactly one of `dialect` and `provider`.
    fn speaks(&mut self, entry: &Value<'i>, table: &DeTable<'i>) -> Option<Speaks> {
        match (table.get("dialect"), table.get("provider")) {
            (Some(value), None) => self.dialect(value).map(Speaks::Dialect),
            (None, Some(value)) => self.provider(value).map(Speaks::Provider),
            (Some(_), Some(second)) => {
                let text = "`dialect` and `provider` stand in one `[[host]]`; keep one of the two";
                self.mistake(&second.span(), text.to_owned());
                None
            }
            (None, None) => {
                let text = "this `[[host]]` has no `dialect` and no `provider`; add one of them";
                self.mistake(&entry.span(), text.to_owned());
                None
            }
        }
    }

    fn free(&mut self, value: &Value<'i>) -> bool {
        let word = self.string("price", value);
        if word.is_some_and(|word| word != "free") {
            let text = "`price` of a host can only be \"free\"; write other prices below a line `[[price]]`";
            self.mistake(&value.span(), text.to_owned());
        }
        word == Some("free")
    }

    fn provider(&mut self, value: &Value<'i>) -> Option<String> {
        let word = self.string("provider", value)?;
        let known: Vec<&str> = crate::usage::providers::PROVIDERS.iter().map(|p| p.id).collect();
        if known.contains(&word) {
            return Some(word.to_owned());
        }
        self.mistake(&value.span(), format!("there is no provider `{word}`; {}", suggestion(word, &known)));
        None
    }

    fn dialect(&mut self, value: &Value<'i>) -> Option<String> {
        let word = self.string("dialect", value)?;
        let known: Vec<&str> = crate::usage::DIALECTS.iter().map(|d| d.name()).collect();
        if known.contains(&word) {
            return Some(word.to_owned());
        }
        self.mistake(&value.span(), format!("there is no dialect `{word}`; {}", suggestion(word, &known)));
        None
    }
}
