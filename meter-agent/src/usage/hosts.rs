//! Which hosts are metered, and as what: the built-in providers' and those that the config adds.
//!
//! Exact names are looked up in a map; patterns, of which there are few, one after the other. An entry of the
//! config wins over a built-in one of the same name.

use std::{borrow::Cow, collections::HashMap, net::IpAddr, sync::Arc};

use super::{
    DIALECTS, Dialect, dialect,
    paid::{APIS, Api},
    providers::{PROVIDERS, Quirks, provider},
};

/// The price provider of a host of one's own, where everything is free.
pub const LOCAL: &str = "local";

/// The category of model calls.
pub const LLM: &str = "llm";

/// A `[[host]]` of the config, or the host of an `[[api]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// A DNS name, which may hold one `*` within or instead of a label, or an address; with or without `:port`.
    pub name: String,
    pub speaks: Speaks,
    /// It costs nothing by itself.
    pub free: bool,
}

/// What a host of the config speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// A dialect, by its name.
    Dialect(String),
    /// What a provider built in speaks, by its id.
    Provider(String),
    /// A paid API of the config.
    Api(&'static Api),
}

impl HostEntry {
    /// A host that speaks the dialect of that name.
    pub fn new(name: impl Into<String>, dialect: impl Into<String>) -> Self {
        Self { name: name.into(), speaks: Speaks::Dialect(dialect.into()), free: false }
    }

    /// A host that is like the provider of that id.
    pub fn like(name: impl Into<String>, provider: impl Into<String>) -> Self {
        Self { name: name.into(), speaks: Speaks::Provider(provider.into()), free: false }
    }
}

/// An entry that can't be used. The text names it and says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("[[host]] `{name}`: there is no dialect `{dialect}`; use one of {known}")]
    Dialect { name: String, dialect: String, known: String },
    #[error("[[host]] `{name}`: there is no provider `{provider}`; use one of {known}")]
    Provider { name: String, provider: String, known: String },
    #[error("[[host]] `{name}`: {reason}")]
    Name { name: String, reason: &'static str },
    #[error("[[host]] `{name}` is there twice; remove one")]
    Twice { name: String },
}

/// What a host speaks and who prices it. Cheap to clone.
#[derive(Clone)]
pub struct HostMatch {
    pub provider_id: &'static str,
    pub price_provider: &'static str,
    pub dialect: &'static dyn Dialect,
    /// The entry's name as written (a pattern perhaps), or the built-in host's: which CA signs for it.
    pub entry: Arc<str>,
    /// Position in [`HostTable::added`]; `None` for a built-in host.
    pub added: Option<usize>,
    pub quirks: Quirks,
    /// The limit category that its cost falls under.
    pub category: &'static str,
}

impl std::fmt::Debug for HostMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostMatch({} as {})", self.entry, self.provider_id)
    }
}

/// Every metered host.
#[derive(Debug)]
pub struct HostTable {
    /// With the port an entry is for, `None` for any.
    exact: HashMap<String, Vec<(Option<u16>, HostMatch)>>,
    patterns: Vec<Pattern>,
    added: Vec<HostEntry>,
}

#[derive(Debug)]
struct Pattern {
    /// What stands between the `*`s, lower case. A `*` takes no dot.
    fixed: Vec<String>,
    port: Option<u16>,
    found: HostMatch,
}

impl HostTable {
    /// The built-in hosts and `extra`.
    pub fn new(extra: &[HostEntry]) -> Result<Self, HostError> {
        let mut table = Self { exact: HashMap::new(), patterns: Vec::new(), added: extra.to_vec() };
        for (index, entry) in extra.iter().enumerate() {
            table.add(index, entry)?;
        }
        for provider in PROVIDERS {
            for host in provider.hosts {
                table.built_in(
                    host,
                    HostMatch {
                        provider_id: provider.id,
                        price_provider: provider.price_provider,
                        dialect: provider.dialect,
                        entry: Arc::from(*host),
                        added: None,
                        quirks: provider.quirks,
                        category: LLM,
                    },
                );
            }
        }
        for api in APIS {
            for host in api.hosts {
                table.built_in(host, HostMatch::of_api(api, host, None));
            }
        }
        Ok(table)
    }

    /// The host by its name or address as the client said it: any case, with or without a trailing dot.
    pub fn find(&self, host: &str, port: u16) -> Option<HostMatch> {
        let host = normal(host);
        let fits = |wanted: Option<u16>| wanted.is_none_or(|p| p == port);
        let exact = self.exact.get(host.as_ref()).and_then(|all| all.iter().find(|(wanted, _)| fits(*wanted)));
        if let Some((_, found)) = exact {
            return Some(found.clone());
        }
        self.patterns.iter().find(|p| fits(p.port) && p.fits(&host)).map(|p| p.found.clone())
    }

    /// Whether an entry names this address with its port: what listens there is that API and nothing else.
    pub fn names_port(&self, address: &str, port: u16) -> bool {
        self.exact.get(normal(address).as_ref()).is_some_and(|all| all.iter().any(|(wanted, _)| *wanted == Some(port)))
    }

    /// The names of the built-in hosts, for their CA's constraints.
    pub fn built_in_names(&self) -> Vec<&str> {
        let apis = APIS.iter().flat_map(|api| api.hosts.iter().copied());
        PROVIDERS.iter().flat_map(|p| p.hosts.iter().copied()).chain(apis).collect()
    }

    /// The entries that the config added, in its order.
    pub fn added(&self) -> &[HostEntry] {
        &self.added
    }

    fn built_in(&mut self, host: &'static str, found: HostMatch) {
        match host.split_once('*') {
            Some(_) => self.patterns.push(Pattern::new(host, None, found)),
            None => self.exact.entry(host.to_owned()).or_default().push((None, found)),
        }
    }

    fn add(&mut self, index: usize, entry: &HostEntry) -> Result<(), HostError> {
        let found = found(index, entry)?;
        let (name, port) =
            split_port(&entry.name).map_err(|reason| HostError::Name { name: entry.name.clone(), reason })?;
        let twice = || HostError::Twice { name: entry.name.clone() };
        if name.contains('*') {
            let pattern = Pattern::new(&name, port, found);
            if self.patterns.iter().any(|p| p.fixed == pattern.fixed && p.port == port) {
                return Err(twice());
            }
            self.patterns.push(pattern);
            return Ok(());
        }
        let same = self.exact.entry(name).or_default();
        if same.iter().any(|(other, _)| *other == port) {
            return Err(twice());
        }
        // An entry for one port is looked at before the one for all of them.
        let at = if port.is_some() { 0 } else { same.len() };
        same.insert(at, (port, found));
        Ok(())
    }
}

impl HostMatch {
    fn of_api(api: &'static Api, entry: &str, added: Option<usize>) -> Self {
        Self {
            provider_id: api.id,
            price_provider: api.id,
            dialect: api,
            entry: Arc::from(entry),
            added,
            quirks: Quirks::default(),
            category: api.category,
        }
    }
}

/// What an entry of the config stands for.
fn found(index: usize, entry: &HostEntry) -> Result<HostMatch, HostError> {
    let known = |names: &mut dyn Iterator<Item = &'static str>| {
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let of = |provider_id, price_provider, dialect, quirks: Quirks| HostMatch {
        provider_id,
        price_provider: if entry.free || quirks.local { LOCAL } else { price_provider },
        dialect,
        entry: Arc::from(entry.name.as_str()),
        added: Some(index),
        quirks,
        category: LLM,
    };
    match &entry.speaks {
        Speaks::Api(api) => Ok(HostMatch::of_api(api, &entry.name, Some(index))),
        Speaks::Provider(id) => {
            let row = provider(id).ok_or_else(|| HostError::Provider {
                name: entry.name.clone(),
                provider: id.clone(),
                known: known(&mut PROVIDERS.iter().map(|p| p.id)),
            })?;
            Ok(of(row.id, row.price_provider, row.dialect, row.quirks))
        }
        Speaks::Dialect(word) => {
            let dialect = dialect(word).ok_or_else(|| HostError::Dialect {
                name: entry.name.clone(),
                dialect: word.clone(),
                known: known(&mut DIALECTS.iter().map(|d| d.name())),
            })?;
            let row = PROVIDERS.iter().find(|p| p.dialect.name() == dialect.name());
            let quirks = row.map_or_else(Quirks::default, |p| p.quirks);
            Ok(of(dialect.name(), row.map_or(dialect.name(), |p| p.price_provider), dialect, quirks))
        }
    }
}

impl Pattern {
    fn new(name: &str, port: Option<u16>, found: HostMatch) -> Self {
        Self { fixed: name.split('*').map(str::to_owned).collect(), port, found }
    }

    /// What stands between two `*`s begins and ends at a dot, so that the first place where it fits is the only one.
    fn fits(&self, host: &str) -> bool {
        let [first, middle @ .., last] = &*self.fixed else { return false };
        let Some(mut rest) = host.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last)) else {
            return false;
        };
        let is_label = |text: &str| !text.is_empty() && !text.contains('.');
        for part in middle {
            match rest.split_once(&**part) {
                Some((label, after)) if is_label(label) => rest = after,
                Some(_) | None => return false,
            }
        }
        is_label(rest)
    }
}

/// Lower case, without a trailing dot or an address's brackets.
fn normal(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.contains(':') {
        // IPv6 has many spellings; the map holds one.
        return host.parse::<IpAddr>().map_or(Cow::Borrowed(host), |ip| Cow::Owned(ip.to_string()));
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The checked, normal name and the port.
fn split_port(written: &str) -> Result<(String, Option<u16>), &'static str> {
    const PORT: &str = "what stands after `:` is not a port; write `name` or `name:8443`";
    let port = |text: &str| text.parse::<u16>().ok().filter(|p| *p > 0).ok_or(PORT);
    if let Ok(ip) = written.parse::<IpAddr>() {
        return Ok((ip.to_string(), None));
    }
    if let Some(rest) = written.strip_prefix('[') {
        let (ip, after) = rest.split_once(']').ok_or("the `[` has no `]`; write `[::1]:8443`")?;
        let ip: IpAddr = ip.parse().map_err(|_| "what stands in the brackets is not an IPv6 address")?;
        let port = after.strip_prefix(':').map(port).transpose()?;
        return Ok((ip.to_string(), port));
    }
    let (name, port) = match written.rsplit_once(':') {
        Some((name, text)) => (name, Some(port(text)?)),
        None => (written, None),
    };
    let name = normal(name).into_owned();
    check(&name)?;
    Ok((name, port))
}

fn check(name: &str) -> Result<(), &'static str> {
    if name.contains("://") || name.contains('/') {
        return Err("write the host's name alone, without scheme and path");
    }
    if name.matches('*').count() > 1 {
        return Err("only one `*` can be used, within or instead of one label");
    }
    // A `*` for all of a name, or for the label below a top-level domain, would be far more than one provider.
    let in_last_label = name.rsplit('.').next().is_some_and(|label| label.contains('*'));
    let fixed = name.split('.').filter(|label| !label.contains('*')).count();
    if name.contains('*') && (in_last_label || fixed < 2) {
        return Err(
            "the `*` covers too much; beside its own label a name needs at least two others, one of them to its right",
        );
    }
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*'))
    };
    if name.len() > 253 || !name.split('.').all(fits) {
        return Err("this is not a DNS name or an address; write for example `llm.example.com` or `localhost:11434`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, &str)]) -> Result<HostTable, HostError> {
        let entry = |(name, dialect): &(&str, &str)| HostEntry::new(*name, *dialect);
        HostTable::new(&entries.iter().map(entry).collect::<Vec<_>>())
    }

    #[test]
    fn built_in_hosts_are_found_in_any_spelling() {
        let table = table(&[]).unwrap();
        for host in ["api.openai.com", "API.OpenAI.com", "api.openai.com."] {
            assert_eq!(table.find(host, 443).unwrap().provider_id, "openai");
        }
        let gemini = table.find("generativelanguage.googleapis.com", 443).unwrap();
        assert_eq!((gemini.provider_id, gemini.price_provider, gemini.added), ("gemini", "google", None));
        assert!(table.find("openai.com", 443).is_none());
        assert!(table.built_in_names().contains(&"api.anthropic.com"));
    }

    #[test]
    fn a_star_takes_one_label_or_a_part_of_one() {
        let table = table(&[("*.openai.azure.com", "openai"), ("my-*.example.com", "anthropic")]).unwrap();
        assert_eq!(table.find("corp.openai.azure.com", 443).unwrap().added, Some(0));
        assert_eq!(&*table.find("MY-7.example.com", 8443).unwrap().entry, "my-*.example.com");
        for host in ["openai.azure.com", "a.b.openai.azure.com", "my-.example.com", "my-a.b.example.com", "evil.com"] {
            assert!(table.find(host, 443).is_none(), "{host}");
        }
    }

    #[test]
    fn ports_and_addresses_are_names_too() {
        let table = table(&[("localhost:11434", "openai"), ("10.0.0.7", "gemini"), ("[::1]:8080", "openai")]).unwrap();
        assert!(table.find("localhost", 11434).is_some() && table.find("localhost", 80).is_none());
        assert_eq!(table.find("10.0.0.7", 99).unwrap().price_provider, "google");
        assert!(table.find("0:0:0:0:0:0:0:1", 8080).is_some() && table.find("[::1]", 8080).is_some());
    }

    #[test]
    fn a_bad_entry_is_named_with_its_fix() {
        let error = |name, dialect| table(&[(name, dialect)]).unwrap_err().to_string();
        assert!(error("a.example.com", "opnai").contains("`openai`, `anthropic`, `gemini`"));
        for bad in ["*.*.example.com", "*", "*.com", "https://x.example.com", "a..b", "x:0", "x:y", "", "a b"] {
            assert!(error(bad, "openai").starts_with(&format!("[[host]] `{bad}`")), "{bad}");
        }
        assert!(matches!(table(&[("a.b.c", "openai"), ("A.b.c", "gemini")]), Err(HostError::Twice { .. })));
    }
}
