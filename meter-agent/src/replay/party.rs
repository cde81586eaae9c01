//! Who is on the other side: the host table's word, or a guess for a host that it does not list.

use std::net::IpAddr;

use crate::{
    pricing::Seller,
    usage::{
        Dialect,
        hosts::{HostMatch, LLM},
        plan::is_on_plan,
        providers::{PROVIDERS, Quirks, provider},
    },
};

/// The provider of one exchange.
pub(super) struct Party {
    /// As in the ledger; a guess says that it is one.
    pub(super) provider: String,
    pub(super) price_provider: &'static str,
    /// The limit category that its cost falls under.
    pub(super) category: &'static str,
    pub(super) quirks: Quirks,
    /// The host's row, built in or in the config.
    pub(super) found: Option<HostMatch>,
}

impl Party {
    pub(super) fn of(found: Option<&HostMatch>, host: &str, dialect: &dyn Dialect) -> Self {
        if let Some(found) = found {
            return Self {
                provider: found.provider_id.to_owned(),
                price_provider: found.price_provider,
                category: found.category,
                quirks: found.quirks,
                found: Some(found.clone()),
            };
        }
        let first = PROVIDERS.iter().find(|p| p.dialect.name() == dialect.name());
        if is_local(host) {
            // Whatever it speaks, it runs on the user's own machines and has no list price.
            let row = first.filter(|row| row.quirks.local).or_else(|| provider("vllm")).or(first);
            let quirks = Quirks { local: true, ..row.map_or(Quirks::PLAIN, |row| row.quirks) };
            return Self::guessed("local", row.map_or("local", |row| row.price_provider), quirks);
        }
        match first {
            Some(row) => Self::guessed(row.id, row.price_provider, row.quirks),
            None => Self::guessed(dialect.name(), dialect.name(), Quirks::PLAIN),
        }
    }

    fn guessed(id: &str, price_provider: &'static str, quirks: Quirks) -> Self {
        Self { provider: format!("{id} (guessed)"), price_provider, category: LLM, quirks, found: None }
    }

    /// Whether the host is built in or in the config.
    pub(super) fn is_listed(&self) -> bool {
        self.found.is_some()
    }

    /// Whether a subscription pays for a request with these headers.
    pub(super) fn is_on_plan(&self, path: &str, headers: &[(String, String)]) -> bool {
        let values = |name: &str| {
            let named = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            named.map(|(_, value)| value.as_bytes()).collect()
        };
        self.found.as_ref().is_some_and(|host| is_on_plan(host, path, values))
    }

    /// Whose prices count.
    pub(super) fn seller(&self) -> Seller<'_> {
        Seller { id: &self.provider, catalogue: self.price_provider }
    }
}

fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_private(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local(),
        Err(_) => host == "localhost" || [".localhost", ".local", ".internal"].iter().any(|end| host.ends_with(end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{dialect, hosts::HostTable};

    #[test]
    fn a_listed_host_is_its_row_and_any_other_says_that_it_is_guessed() {
        let table = HostTable::new(&[]).unwrap();
        let openai = dialect("openai").unwrap();
        let found = table.find("api.groq.com", 443);
        let party = Party::of(found.as_ref(), "api.groq.com", openai);
        assert_eq!((&*party.provider, party.price_provider, party.is_listed()), ("groq", "groq", true));
        let party = Party::of(None, "gateway.example.com", dialect("anthropic").unwrap());
        assert_eq!(
            (&*party.provider, party.price_provider, party.is_listed()),
            ("anthropic (guessed)", "anthropic", false)
        );
        for host in ["localhost", "127.0.0.1", "[::1]", "10.1.2.3", "box.local"] {
            let party = Party::of(None, host, openai);
            assert!(party.provider == "local (guessed)" && party.quirks.local, "{host}");
        }
    }
}
